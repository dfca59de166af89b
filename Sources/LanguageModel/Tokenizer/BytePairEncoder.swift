import QuantKernels

/// Byte pair encoding by a list of merges: the pair of neighbors with the lowest rank, the leftmost
/// of equal ones, merges until no pair is in the list.
///
/// Texts are numbered once when the vocabulary is read: tokens by their ids, then other texts that
/// merges name or make (llama.cpp lets merges pass through texts that are no tokens). Merging then
/// handles numbers only.
struct BytePairEncoder: Sendable {
  /// Room that is used again from word to word.
  struct Workspace {
    fileprivate var word = MergingWord()
    fileprivate var spelled: [UInt8] = []
  }

  let preTokenizer: PreTokenizer
  private let texts: ByteStringTable
  private let tokenCount: UInt32
  private let merges: PairTable
  /// The text that spells each byte, when bytes are spelled.
  private let byteSymbols: [UInt32]
  /// What stands for a byte of a text that is no token; -1 for nothing.
  private let byteTokens: [Int32]

  /// - Parameters:
  ///   - texts: the tokens' texts; further texts are added here.
  ///   - merges: by rank. A merge without a space between its halves can never apply and is
  ///     ignored, as are repetitions of a pair.
  init(texts: ByteStringTable, merges: [[UInt8]], preTokenizer: PreTokenizer) {
    self.preTokenizer = preTokenizer
    tokenCount = UInt32(truncatingIfNeeded: texts.count)
    var texts = texts
    var table = PairTable(capacity: merges.count)
    var joined: [UInt8] = []
    var made = 0
    for (rank, merge) in merges.enumerated() {
      Tokenizer.untilNull(merge).withUnsafeBufferPointer { merge in
        guard let space = BytePairEncoder.space(in: merge) else { return }
        let left = UnsafeBufferPointer(rebasing: merge[..<space])
        let right = UnsafeBufferPointer(rebasing: merge[(space + 1)...])
        joined.removeAll(keepingCapacity: true)
        joined.append(contentsOf: left)
        joined.append(contentsOf: right)
        joined.withUnsafeBufferPointer { joined in
          // Files mostly list merges in the order of the tokens they make, which saves looking them
          // up.
          if texts.isString(made + 1, joined) {
            made += 1
          } else if !texts.isString(made, joined) {
            made = texts.insert(joined).number
          }
        }
        table.insert(
          UInt32(truncatingIfNeeded: texts.insert(left).number),
          UInt32(truncatingIfNeeded: texts.insert(right).number),
          PairTable.Value(
            rank: UInt32(truncatingIfNeeded: rank), result: UInt32(truncatingIfNeeded: made)))
      }
    }
    self.texts = texts
    self.merges = table
    let tokenCount = tokenCount
    byteSymbols = (0..<256).map { byte in
      let number = texts.number(of: ByteSpelling.spelling(of: UInt8(byte)))
      return number.map { UInt32(truncatingIfNeeded: $0) } ?? MergingWord.none
    }
    // A byte-level text falls back to tokens that are its very bytes (of its spelling), others to
    // tokens that name bytes.
    byteTokens = (0..<256).map { byte in
      let name = preTokenizer.encodesBytes ? [UInt8(byte)] : ByteName.name(of: UInt8(byte))
      guard let number = texts.number(of: name), number < Int(tokenCount) else { return -1 }
      return Int32(truncatingIfNeeded: number)
    }
  }

  /// Where the first space after the first byte stands, if something follows it.
  private static func space(in merge: UnsafeBufferPointer<UInt8>) -> Int? {
    var index = 1
    while index < merge.count - 1 {
      if merge[index] == 0x20 { return index }
      index += 1
    }
    return nil
  }

  /// Appends the tokens of a fragment of text that holds no special tokens.
  func encode(
    _ fragment: UnsafeBufferPointer<UInt8>, into output: inout [Int32],
    workspace: inout Workspace
  ) {
    let codePoints: [UInt32]
    if preTokenizer.escapesSpaces {
      codePoints = EscapedSpace.escape(fragment, prefix: false)
        .withUnsafeBufferPointer { UTF8Text.codePoints($0) }
    } else {
      codePoints = UTF8Text.codePoints(fragment)
    }
    var word: [UInt8] = []
    var start = 0
    for end in preTokenizer.wordEnds(of: codePoints) {
      word.removeAll(keepingCapacity: true)
      for index in start..<end { UTF8Text.append(codePoints[index], to: &word) }
      start = end
      encode(word: word, into: &output, workspace: &workspace)
    }
  }

  private func encode(
    word: [UInt8], into output: inout [Int32], workspace: inout Workspace
  ) {
    let isNewlines = preTokenizer.isGemma4 && word.allSatisfy { $0 == 0x0A }
    if preTokenizer.ignoresMerges || isNewlines, let token = token(of: word, &workspace) {
      output.append(token)
      return
    }
    workspace.word.removeAll()
    if preTokenizer.encodesBytes {
      for byte in word { workspace.word.append(byteSymbols[Int(byte)], length: 1) }
    } else {
      appendCharacters(of: word, to: &workspace.word)
    }
    workspace.word.merge(by: merges)
    var offset = 0
    for (symbol, length) in workspace.word.parts where length > 0 {
      append(symbol, word[offset..<(offset + Int(length))], to: &output)
      offset += Int(length)
    }
  }

  private func appendCharacters(of word: [UInt8], to parts: inout MergingWord) {
    word.withUnsafeBufferPointer { bytes in
      var offset = 0
      while offset < bytes.count {
        let length = min(UTF8Text.length(announcedBy: bytes[offset]), bytes.count - offset)
        let character = UnsafeBufferPointer(rebasing: bytes[offset..<(offset + length)])
        let number = texts.number(of: character)
        parts.append(
          number.map { UInt32(truncatingIfNeeded: $0) } ?? MergingWord.none, length: length)
        offset += length
      }
    }
  }

  /// The token whose text a whole word is.
  private func token(of word: [UInt8], _ workspace: inout Workspace) -> Int32? {
    let number: Int?
    if preTokenizer.encodesBytes {
      workspace.spelled.removeAll(keepingCapacity: true)
      for byte in word {
        UTF8Text.append(ByteSpelling.codePoints[Int(byte)], to: &workspace.spelled)
      }
      number = texts.number(of: workspace.spelled)
    } else {
      number = texts.number(of: word)
    }
    guard let number, number < Int(tokenCount) else { return nil }
    return Int32(truncatingIfNeeded: number)
  }

  private func append(_ symbol: UInt32, _ bytes: ArraySlice<UInt8>, to output: inout [Int32]) {
    if symbol < tokenCount {
      output.append(Int32(truncatingIfNeeded: symbol))
      return
    }
    for byte in bytes {
      for unit in preTokenizer.encodesBytes ? ByteSpelling.spelling(of: byte) : [byte] {
        let token = byteTokens[Int(unit)]
        if token >= 0 { output.append(token) }
      }
    }
  }
}
