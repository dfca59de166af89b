extension WordPattern {
  /// Where the word that begins at `start`, with what may lead it, ends; `start` when there is
  /// none.
  func wordEnd(_ text: ClassifiedText, at start: Int) -> Int {
    switch words {
    case .spaced:
      let first = text.code(start) == 0x20 ? start + 1 : start
      let end = text.endOfRun(first, of: .letter)
      return end > first ? end : start
    case .led: return ledEnd(text, at: start, of: .letter)
    case .ledWithMarks: return ledEnd(text, at: start, of: [.letter, .mark])
    case .signed: return signedEnd(text, at: start)
    case .cased: return casedEnd(text, at: start, of: .letter)
    case .casedWithMarks: return casedEnd(text, at: start, of: [.letter, .mark])
    case .phrases: return phraseEnd(text, at: start)
    case .apartFromHan: return apartFromHanEnd(text, at: start)
    }
  }

  /// `[^\r\n\p{L}\p{N}]`
  private func canLead(_ text: ClassifiedText, _ index: Int) -> Bool {
    text.lacks(index, [.letter, .number]) && !text.isNewline(index)
  }

  private func ledEnd(
    _ text: ClassifiedText, at start: Int, of wanted: CharacterClass
  ) -> Int {
    let first = canLead(text, start) ? start + 1 : start
    let end = text.endOfRun(first, of: wanted)
    if end > first { return end }
    // A mark that leads nothing may still be a word of its own.
    return text.endOfRun(start, of: wanted)
  }

  private func signedEnd(_ text: ClassifiedText, at start: Int) -> Int {
    let code = text.code(start)
    if code < 0x80, text.has(start, [.punctuation, .symbol]) {
      var end = start + 1
      while text.code(end) < 0x80, text.has(end, .letter) { end += 1 }
      if end > start + 1 { return end }
    }
    let wanted: CharacterClass = [.letter, .mark]
    let leads =
      text.lacks(start, [.letter, .punctuation, .symbol]) && !text.isNewline(start)
    let first = leads ? start + 1 : start
    let end = text.endOfRun(first, of: wanted)
    return end > first ? end : text.endOfRun(start, of: wanted)
  }

  /// Tries `U*L+` and then `U+L*`, each first with a leading character.
  private func casedEnd(
    _ text: ClassifiedText, at start: Int, of wanted: CharacterClass
  ) -> Int {
    let leads = canLead(text, start)
    var end = start
    if leads {
      end = casedRun(text, at: start + 1, of: wanted, needsLower: true)
      if end > start + 1 { return end }
    }
    end = casedRun(text, at: start, of: wanted, needsLower: true)
    if end > start { return end }
    if leads {
      end = casedRun(text, at: start + 1, of: wanted, needsLower: false)
      if end > start + 1 { return end }
    }
    return casedRun(text, at: start, of: wanted, needsLower: false)
  }

  /// A letter except a–z.
  @inline(__always)
  private func isUpper(_ text: ClassifiedText, _ index: Int, _ wanted: CharacterClass) -> Bool {
    text.has(index, wanted) && !(0x61...0x7A).contains(text.code(index))
  }

  /// A letter except A–Z. Letters beyond ASCII, of either case, are both.
  @inline(__always)
  private func isLower(_ text: ClassifiedText, _ index: Int, _ wanted: CharacterClass) -> Bool {
    text.has(index, wanted) && !(0x41...0x5A).contains(text.code(index))
  }

  private func casedRun(
    _ text: ClassifiedText, at start: Int, of wanted: CharacterClass, needsLower: Bool
  ) -> Int {
    var split = start
    while isUpper(text, split, wanted) { split += 1 }
    if needsLower {
      // `U*` gives back as little as leaves one L.
      while split > start, !isLower(text, split, wanted) { split -= 1 }
      guard isLower(text, split, wanted) else { return start }
    } else if split == start {
      return start
    }
    var end = split
    while isLower(text, end, wanted) { end += 1 }
    return end
  }

  private func phraseEnd(_ text: ClassifiedText, at start: Int) -> Int {
    let first = canLead(text, start) ? start + 1 : start
    guard text.has(first, .letter) else { return start }
    var end = first + 1
    while true {
      if text.has(end, [.letter, .mark]) {
        end += 1
      } else if text.code(end) == 0x20, text.has(end + 1, .letter) {
        end += 2
      } else {
        return end
      }
    }
  }

  private func apartFromHanEnd(_ text: ClassifiedText, at start: Int) -> Int {
    var end = start
    while CodePointSet.isHan(text.code(end)) { end += 1 }
    if end > start { return end }
    let first = canLead(text, start) ? start + 1 : start
    end = first
    while text.has(end, .letter), !CodePointSet.isHan(text.code(end)) { end += 1 }
    return end > first ? end : start
  }
}
