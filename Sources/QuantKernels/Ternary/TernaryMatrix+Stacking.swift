extension TernaryMatrix {
  /// Matrices of the same inputs as one, their rows in this order and every row with the scale that
  /// it had.
  ///
  /// - Throws: ``QuantError`` when there is none or their columns differ.
  /// - Complexity: O(rows · columns).
  public init(stacking parts: [TernaryMatrix]) throws(QuantError) {
    guard let columns = parts.first?.columns, parts.allSatisfy({ $0.columns == columns }) else {
      throw QuantError(
        .invalidArgument, "stacked ternary matrices",
        parts.isEmpty ? "there are none" : "columns \(parts.map(\.columns)) differ",
        remedy: "stack layers that read the same input")
    }
    if parts.count == 1 {
      self = parts[0]
      return
    }
    var codes: [UInt8] = []
    codes.reserveCapacity(parts.reduce(0) { $0 + $1.codes.count })
    var scales: [Float] = []
    for part in parts {
      codes += part.codes
      for row in 0..<part.rows { scales.append(part.scale(row: row)) }
    }
    try self.init(
      rows: scales.count, columns: columns, codes: codes, scales: .rows(scales))
  }

  /// The same codes with every scale times `factor`, each product rounded once.
  ///
  /// - Throws: ``QuantError`` when a product is not finite.
  public func scaled(by factor: Float) throws(QuantError) -> TernaryMatrix {
    let scaled: Scales =
      switch scales {
      case .tensor(let scale): .tensor(scale * factor)
      case .rows(let values): .rows(values.map { $0 * factor })
      }
    return try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: scaled)
  }
}
