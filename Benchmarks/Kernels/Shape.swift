import Foundation
import QuantKernels

/// A line of a file of `Shapes`: `format M N K [group] [symmetric]`.
struct Shape {
  let format: String
  let tokens: Int
  let outputs: Int
  let inputs: Int
  let group: Int?
  let isSymmetric: Bool

  /// What these benchmarks make weights of; files may hold more, for the command line.
  static let formats: Set<String> = ["int4", "ternary", "ternary-dense"]

  /// Without `/` and spaces, which this benchmark's thresholds cannot find again.
  var name: String {
    "\(format).m\(tokens).n\(outputs).k\(inputs)" + (group.map { ".g\($0)" } ?? "")
      + (isSymmetric ? ".symmetric" : "")
  }

  /// All shapes of a file beside this package's manifest.
  static func list(_ file: String) throws -> [Shape] {
    let folder = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Shapes")
    let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
    return try text.split(separator: "\n").compactMap { line in
      var words = line.prefix { $0 != "#" }.split(separator: " ")
      if words.isEmpty { return nil }
      let isSymmetric = words.last == "symmetric"
      if isSymmetric { words.removeLast() }
      let numbers = words.dropFirst().compactMap { Int($0) }
      guard (3...4).contains(numbers.count), numbers.count == words.count - 1 else {
        throw QuantError(
          .invalidData, file, "'\(line)' is no shape",
          remedy: "write: format M N K [group] [symmetric]")
      }
      return Shape(
        format: String(words[0]), tokens: numbers[0], outputs: numbers[1], inputs: numbers[2],
        group: numbers.count > 3 ? numbers[3] : nil, isSymmetric: isSymmetric)
    }
  }

  /// Its weights, packed for this processor, and what multiplies a batch of fixed numbers by them.
  ///
  /// - Throws: ``QuantError`` for a format that this benchmark does not make weights of.
  func product() throws -> Product {
    let weights = (0..<outputs * inputs).map { Float($0 % 17) / 8 - 1 }
    let x = (0..<tokens * inputs).map { Float($0 % 13) / 6 - 1 }
    switch format {
    case "int4":
      let packed = try PackedWeights(
        Int4Matrix(
          quantizing: weights, rows: outputs, columns: inputs, groupSize: group ?? 128,
          symmetric: isSymmetric))
      return Product { try packed.matmul(x) }
    case "ternary", "ternary-dense":
      let packed = try PackedTernary(
        TernaryMatrix(quantizing: weights, rows: outputs, columns: inputs),
        format: PackedTernary.Format(rawValue: format) ?? .twoBit)
      return Product { try packed.matmul(x) }
    default:
      throw QuantError(
        .unsupported, "format \(format)", "these benchmarks make int4 and ternary weights",
        remedy: "measure it by quantkernels bench matmul --format \(format)")
    }
  }
}

/// A product that is run again and again.
struct Product {
  let run: () throws -> [Float]
}
