// Lists the public symbols of symbol graphs that have no comment, and those that throw without saying what, and fails if
// there are any. Run by Tests/docs.sh: swift Tests/undocumented.swift GRAPH…
import Foundation

struct SymbolGraph: Decodable {
  var symbols: [Symbol]
  var relationships: [Relationship]

  struct Relationship: Decodable {
    var source: String
    /// The requirement that a witness without a comment of its own has its comment from.
    var sourceOrigin: Origin?

    struct Origin: Decodable { var identifier: String }
  }

  struct Symbol: Decodable {
    var identifier: Identifier
    var kind: Kind
    var pathComponents: [String]
    var docComment: Comment?
    var declarationFragments: [Fragment]?
    var location: Location?

    struct Identifier: Decodable { var precise: String }
    struct Kind: Decodable { var identifier: String }
    struct Comment: Decodable { var lines: [Line] }
    struct Line: Decodable { var text: String }
    struct Fragment: Decodable { var spelling: String }
    struct Location: Decodable {
      var uri: String
      var position: Position
    }
    struct Position: Decodable { var line: Int }
  }
}

extension SymbolGraph.Symbol {
  var comment: String {
    (docComment?.lines ?? []).map(\.text).joined(separator: "\n")
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Members that the compiler makes are nobody's to document, nor are types of others that are extended.
  var isWritten: Bool {
    location != nil && !identifier.precise.contains("::SYNTHESIZED::")
      && kind.identifier != "swift.extension"
  }

  /// Whether it throws itself: what its closures throw stands within parentheses.
  var isThrowing: Bool {
    if kind.identifier == "swift.typealias" { return false }
    var depth = 0
    var outside = ""
    for character in (declarationFragments ?? []).map(\.spelling).joined() {
      if character == "(" { depth += 1 }
      if depth == 0 { outside.append(character) }
      if character == ")" { depth -= 1 }
    }
    return outside.contains("throws")
  }

  /// An overload may refer to the one that says it: "The same …", "as ``…``", "see ``…``".
  var saysErrors: Bool {
    let comment = comment.replacingOccurrences(of: "\n", with: " ")
    return comment.contains("- Throws:") || comment.contains("The same")
      || comment.contains("as ``") || comment.contains("see ``")
  }

  var place: String {
    guard let location else { return "?" }
    let path = location.uri.components(separatedBy: "Sources/").dropFirst().joined()
    return "Sources/\(path):\(location.position.line + 1)"
  }
}

var findings: [String] = []
var count = 0
for path in CommandLine.arguments.dropFirst() {
  let data = try Data(contentsOf: URL(fileURLWithPath: path))
  let graph = try JSONDecoder().decode(SymbolGraph.self, from: data)
  let witnesses = Set(graph.relationships.filter { $0.sourceOrigin != nil }.map(\.source))
  for symbol in graph.symbols where symbol.isWritten {
    count += 1
    if witnesses.contains(symbol.identifier.precise) { continue }
    let name = symbol.pathComponents.joined(separator: ".")
    if symbol.comment.isEmpty {
      findings.append("\(symbol.place): \(name) has no comment")
    } else if symbol.isThrowing, !symbol.saysErrors {
      findings.append("\(symbol.place): \(name) does not say what it throws")
    }
  }
}
if count == 0 { findings.append("no symbols in \(CommandLine.arguments.dropFirst())") }
for finding in findings.sorted() { print("error: \(finding)") }
print("public symbols: \(count), findings: \(findings.count)")
exit(findings.isEmpty ? 0 : 1)
