/// The big alternation that most byte-level tokenizers split words by, as data.
///
/// All of them try, in this order: an English contraction, a word, a number, a run of signs, white
/// space. What differs is which characters a word takes, how long numbers get, and what follows
/// signs; each member below says its rule as a regular expression. Matching is linear in the match.
struct WordPattern: Sendable {
  /// `'s|'t|'re|'ve|'m|'ll|'d`
  enum Contractions: Sendable {
    case none
    /// Before words, lower case only (GPT-2).
    case lowercase
    /// Before words, in any case (Llama 3).
    case anyCase
    /// After a word, part of it, in any case (GPT-4o).
    case suffix
  }

  enum Words: Sendable {
    /// ` ?\p{L}+`
    case spaced
    /// `[^\r\n\p{L}\p{N}]?\p{L}+`
    case led
    /// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
    case ledWithMarks
    /// `[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`
    case signed
    /// `[^\r\n\p{L}\p{N}]?` and then `U*L+|U+L*` with U the letters except a–z, L the letters
    /// except A–Z.
    case cased
    /// The same, marks counting as letters.
    case casedWithMarks
    /// `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
    case phrases
    /// `\p{Han}+`, or `led` without Han letters.
    case apartFromHan
  }

  enum Numbers: Sendable {
    /// Numbers are no alternative of the pattern.
    case unmatched
    /// ` ?\p{N}+`
    case spaced
    /// `\p{N}{1,n}`
    case upTo(Int)
  }

  enum Signs: Sendable {
    /// ` ?[^\s\p{L}\p{N}]+`
    case others
    /// ` ?[^\s\p{L}\p{M}\p{N}]+`
    case othersWithoutMarks
    /// ` ?[\p{P}\p{S}]+`
    case named
  }

  enum SignsTail: Sendable {
    case none
    /// `[\r\n]*`
    case newlines
    /// `[\r\n/]*`
    case newlinesAndSlashes
    /// `[\r\n/]?`
    case newlineOrSlash
  }

  enum Space: Sendable {
    /// `\s+(?!\S)|\s+`
    case plain
    /// `\s*[\r\n]+|\s+(?!\S)|\s+`
    case upToNewlines
    /// `[\r\n]|\s+(?!\S)|\s+`
    case singleNewlines
    /// `\s*[\r\n]+`, then runs of 512, 256, … 4 and 1 or 2 that no sign follows, then `\s`.
    case halving
  }

  var contractions: Contractions
  var words: Words
  var numbers: Numbers
  var signs: Signs = .others
  var tail: SignsTail = .newlines
  var space: Space = .upToNewlines

  /// Where the match that begins at `start` ends; `start` when nothing matches.
  func matchEnd(_ text: ClassifiedText, at start: Int) -> Int {
    if contractions == .lowercase || contractions == .anyCase {
      let end = contractionEnd(text, at: start)
      if end > start { return end }
    }
    var end = wordEnd(text, at: start)
    if end > start {
      // Only the run of Han itself is matched without a suffix.
      let isHan = words == .apartFromHan && CodePointSet.isHan(text.code(start))
      return contractions == .suffix && !isHan ? contractionEnd(text, at: end) : end
    }
    end = numberEnd(text, at: start)
    if end > start { return end }
    end = signsEnd(text, at: start)
    if end > start { return end }
    return spaceEnd(text, at: start)
  }

  private func contractionEnd(_ text: ClassifiedText, at start: Int) -> Int {
    guard text.code(start) == 0x27 else { return start }
    let first = letter(text, start + 1)
    switch first {
    case "s", "t", "m", "d": return start + 2
    case "r", "v": return letter(text, start + 2) == "e" ? start + 3 : start
    case "l": return letter(text, start + 2) == "l" ? start + 3 : start
    default: return start
    }
  }

  /// An ASCII letter, lowered unless case counts.
  private func letter(_ text: ClassifiedText, _ index: Int) -> Unicode.Scalar {
    let code = text.code(index)
    let isUpper = code >= 0x41 && code <= 0x5A
    if isUpper { return contractions == .lowercase ? "?" : Unicode.Scalar(UInt8(code | 0x20)) }
    return code < 0x80 ? Unicode.Scalar(UInt8(code)) : "?"
  }

  private func numberEnd(_ text: ClassifiedText, at start: Int) -> Int {
    switch numbers {
    case .unmatched: return start
    case .spaced:
      let first = text.code(start) == 0x20 ? start + 1 : start
      let end = text.endOfRun(first, of: .number)
      return end > first ? end : start
    case .upTo(let most):
      var end = start
      while end - start < most, text.has(end, .number) { end += 1 }
      return end
    }
  }

  private func signsEnd(_ text: ClassifiedText, at start: Int) -> Int {
    let first = text.code(start) == 0x20 ? start + 1 : start
    var end = first
    switch signs {
    case .others: while text.lacks(end, [.whitespace, .letter, .number]) { end += 1 }
    case .othersWithoutMarks:
      while text.lacks(end, [.whitespace, .letter, .number, .mark]) { end += 1 }
    case .named: while text.has(end, [.punctuation, .symbol]) { end += 1 }
    }
    guard end > first else { return start }
    switch tail {
    case .none: break
    case .newlines: while text.isNewline(end) { end += 1 }
    case .newlinesAndSlashes:
      while text.isNewline(end) || text.code(end) == 0x2F { end += 1 }
    case .newlineOrSlash: if text.isNewline(end) || text.code(end) == 0x2F { end += 1 }
    }
    return end
  }

  private func spaceEnd(_ text: ClassifiedText, at start: Int) -> Int {
    guard text.has(start, .whitespace) else { return start }
    if space == .singleNewlines, text.isNewline(start) { return start + 1 }
    let end = text.endOfRun(start, of: .whitespace)
    if space == .upToNewlines || space == .halving {
      var last = end
      while last > start, !text.isNewline(last - 1) { last -= 1 }
      if last > start { return last }
    }
    let atEnd = end == text.end
    let count = end - start
    if space == .halving {
      // A run matches when another space or the end follows it.
      var length = 512
      while length >= 4 {
        if count > length || (count == length && atEnd) { return start + length }
        length /= 2
      }
      return count > 2 || (count == 2 && atEnd) ? start + 2 : start + 1
    }
    return atEnd || count == 1 ? end : end - 1
  }
}
