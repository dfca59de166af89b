/// Tokenizers in the plainest form, to check the fast ones against: quadratic and worse.
enum ReferenceTokenizers {
  /// Merges neighbors by rank, over texts.
  static func bytePair(_ symbols: [String], ranks: [String: Int]) -> [String] {
    var symbols = symbols
    while true {
      var best: (rank: Int, index: Int)?
      for index in symbols.indices.dropLast() {
        guard let rank = ranks[symbols[index] + " " + symbols[index + 1]] else { continue }
        if best.map({ rank < $0.rank }) ?? true { best = (rank, index) }
      }
      guard let best else { return symbols }
      symbols[best.index] += symbols.remove(at: best.index + 1)
    }
  }

  /// Merges neighbors by the score of what they form.
  static func sentencePiece(_ symbols: [String], scores: [String: Float]) -> [String] {
    var symbols = symbols
    while true {
      var best: (score: Float, index: Int)?
      for index in symbols.indices.dropLast() {
        guard let score = scores[symbols[index] + symbols[index + 1]] else { continue }
        if best.map({ score > $0.score }) ?? true { best = (score, index) }
      }
      guard let best else { return symbols }
      symbols[best.index] += symbols.remove(at: best.index + 1)
    }
  }

  enum Part: Equatable {
    case text(String)
    case token(String)
  }

  /// Takes special texts, longest first and then in their order, each from left to right, out of
  /// text.
  static func split(_ text: String, specials: [String]) -> [Part] {
    var parts: [Part] = text.isEmpty ? [] : [.text(text)]
    let sorted = specials.enumerated().sorted {
      ($1.element.count, $0.offset) < ($0.element.count, $1.offset)
    }
    for (_, special) in sorted {
      parts = parts.flatMap { part -> [Part] in
        guard case .text(let text) = part else { return [part] }
        var result: [Part] = []
        var rest = Array(text)[...]
        var before: [Character] = []
        while !rest.isEmpty {
          if rest.starts(with: Array(special)) {
            if !before.isEmpty { result.append(.text(String(before))) }
            before = []
            result.append(.token(special))
            rest.removeFirst(special.count)
          } else {
            before.append(rest.removeFirst())
          }
        }
        if !before.isEmpty { result.append(.text(String(before))) }
        return result
      }
    }
    return parts
  }
}
