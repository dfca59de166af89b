/// One pass of a pre-tokenizer: cuts each piece into matches and what lies between them.
enum SplitStage: Sendable {
  /// What may stand before a run and belongs to it.
  enum Lead: Sendable {
    case none
    /// ` ?`
    case space
    /// `\s?`
    case whitespace
  }

  case words(WordPattern)
  /// Up to `most` code points of a set.
  case runs(CodePointSet, lead: Lead = .none, most: Int = .max)
  /// The longest run of any one of the sets.
  case anyRun([CodePointSet])
  /// `[^(\s|.,!?…。，、।۔،)]+`, a space before it belonging to it.
  case spacedWords
  /// `\s+$`
  case trailingWhitespace
  /// `[0-9][0-9][0-9]`
  case digitTriples
  /// Numbers in groups of three counted from their end.
  case numbersFromTheRight
  /// `(?=(\d{3})+(?!\d))`: the same cuts among ASCII digits.
  case thousands
  /// `[^\n]+|[\n]+`
  case lines
  /// `([\t\n]|    |  )`
  case indents
  /// `<sentinel:[0-9]+>`
  case sentinels
  /// `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
  case imageMarks

  /// Cuts the piece `start..<text.end` and appends where each part ends.
  func split(_ text: ClassifiedText, from start: Int, into ends: inout [Int]) {
    switch self {
    case .numbersFromTheRight, .thousands: splitNumbers(text, from: start, into: &ends)
    case .trailingWhitespace:
      var first = text.end
      while first > start, text.has(first - 1, .whitespace) { first -= 1 }
      if first > start { ends.append(first) }
      if first < text.end { ends.append(text.end) }
    default:
      var index = start
      var unmatched = start
      while index < text.end {
        let end = matchEnd(text, at: index)
        if end > index {
          if index > unmatched { ends.append(index) }
          ends.append(end)
          unmatched = end
          index = end
        } else {
          index += 1
        }
      }
      if unmatched < text.end { ends.append(text.end) }
    }
  }

  /// Where the match at `start` ends; `start` when there is none.
  private func matchEnd(_ text: ClassifiedText, at start: Int) -> Int {
    switch self {
    case .words(let pattern): return pattern.matchEnd(text, at: start)
    case .runs(let set, let lead, let most):
      var first = start
      switch lead {
      case .none: break
      case .space: if text.code(start) == 0x20 { first += 1 }
      case .whitespace: if text.has(start, .whitespace) { first += 1 }
      }
      var end = first
      while end - first < most, text.contains(end, in: set) { end += 1 }
      return end > first ? end : start
    case .anyRun(let sets):
      for set in sets where text.contains(start, in: set) {
        var end = start + 1
        while text.contains(end, in: set) { end += 1 }
        return end
      }
      return start
    case .spacedWords:
      let first = text.code(start) == 0x20 ? start + 1 : start
      var end = first
      while SplitStage.isWordCharacter(text, end) { end += 1 }
      return end > first ? end : start
    case .digitTriples:
      let isTriple = (0..<3).allSatisfy { SplitStage.isDigit(text.code(start + $0)) }
      return isTriple ? start + 3 : start
    case .lines:
      let isBreak = text.code(start) == 0x0A
      var end = start + 1
      while end < text.end, (text.code(end) == 0x0A) == isBreak { end += 1 }
      return end
    case .indents:
      if text.code(start) == 0x09 || text.code(start) == 0x0A { return start + 1 }
      var spaces = 0
      while spaces < 4, text.code(start + spaces) == 0x20 { spaces += 1 }
      return spaces == 4 ? start + 4 : spaces >= 2 ? start + 2 : start
    case .sentinels:
      guard let first = SplitStage.skip("<sentinel:", text, at: start) else { return start }
      var end = first
      while SplitStage.isDigit(text.code(end)) { end += 1 }
      return end > first && text.code(end) == 0x3E ? end + 1 : start
    case .imageMarks:
      guard let first = SplitStage.skip("IMGIMG", text, at: start) else { return start }
      var end = first
      while end - first < 4, (0x41...0x49).contains(text.code(end)) { end += 1 }
      return end > first && text.code(end) == 0x5A ? end + 1 : start
    case .numbersFromTheRight, .thousands, .trailingWhitespace: return start
    }
  }

  private func splitNumbers(_ text: ClassifiedText, from start: Int, into ends: inout [Int]) {
    let asciiOnly = if case .thousands = self { true } else { false }
    func isNumber(_ index: Int) -> Bool {
      asciiOnly ? SplitStage.isDigit(text.code(index)) : text.has(index, .number)
    }
    var index = start
    var cut = start
    while index < text.end {
      guard isNumber(index) else {
        index += 1
        continue
      }
      let first = index
      while isNumber(index) { index += 1 }
      // Where whole groups begin. `thousands` cuts before each of them; `numbersFromTheRight` cuts
      // after every group, the short first one too, so that text before a number joins its first
      // group.
      var group = first + (index - first) % 3
      if asciiOnly {
        while group < index {
          if group > cut {
            ends.append(group)
            cut = group
          }
          group += 3
        }
      } else {
        if group == first { group += 3 }
        while group <= index {
          ends.append(group)
          cut = group
          group += 3
        }
      }
    }
    if cut < text.end { ends.append(text.end) }
  }

  private static func isDigit(_ code: UInt32) -> Bool { code >= 0x30 && code <= 0x39 }

  private static func isWordCharacter(_ text: ClassifiedText, _ index: Int) -> Bool {
    guard text.lacks(index, .whitespace) else { return false }
    switch text.code(index) {
    case 0x28, 0x29, 0x7C, 0x2E, 0x2C, 0x21, 0x3F, 0x2026, 0x3002, 0xFF0C, 0x3001, 0x0964, 0x06D4,
      0x060C:
      return false
    default: return true
    }
  }

  private static func skip(_ ascii: StaticString, _ text: ClassifiedText, at start: Int) -> Int? {
    ascii.withUTF8Buffer { bytes in
      for index in 0..<bytes.count where text.code(start + index) != UInt32(bytes[index]) {
        return nil
      }
      return start + bytes.count
    }
  }
}
