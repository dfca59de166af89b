import QuantKernels

/// A product to measure: a format and the three extents.
struct MatmulShape {
  let format: WeightFormat
  let tokens: Int
  let outputs: Int
  let inputs: Int
  let group: Int?
  let symmetric: Bool

  /// - Throws: ``QuantError`` for an unknown format (64), one that is not built in (69), an extent
  ///   below 1, and groups where the format has its own.
  init(
    format: String, tokens: Int, outputs: Int, inputs: Int, group: Int?, symmetric: Bool
  ) throws(QuantError) {
    self.format = try WeightFormat(named: format)
    for (name, value) in [("M", tokens), ("N", outputs), ("K", inputs)]
    where !(1...1 << 24).contains(value) {
      throw QuantError(
        .invalidArgument, name, "is \(value)", remedy: "choose an extent of 1 to \(1 << 24)")
    }
    if self.format != .int4, group != nil || symmetric {
      throw QuantError(
        .invalidArgument, "format \(format)", "its groups and zero points are fixed",
        remedy: "leave --group and --symmetric out")
    }
    self.tokens = tokens
    self.outputs = outputs
    self.inputs = inputs
    self.group = self.format == .int4 ? group ?? min(128, inputs) : nil
    self.symmetric = symmetric
  }

  var isTernary: Bool {
    switch format {
    case .ternary, .imported: true
    case .int4, .type: false
    }
  }

  /// - Throws: ``QuantError`` (69) when the product would not fit into memory.
  func checkMemory(copies cacheBytes: Int) throws(QuantError) {
    // Weights as they are made and packed: two bytes an int4 code while it is unpacked, and twice a
    // type's bytes. Inputs as floats, as codes with their scales, and in the order of the kernels.
    let weight: [Int] =
      switch format {
      case .int4, .ternary: [2, outputs, inputs]
      case .imported: [4, outputs, inputs]
      case .type(let type): [2, outputs, type.rowBytes(columns: inputs) ?? inputs]
      }
    try MemoryRequirement.check(
      MemoryRequirement.sum([
        weight, [10, tokens, inputs], [4, tokens, outputs], [cacheBytes],
      ]), subject: "\(format) \(tokens)×\(outputs)×\(inputs)", remedy: "choose a smaller shape")
  }

  func randomWeights(
    instructionSet: InstructionSet, pool: WorkerPool
  ) throws(QuantError) -> any MeasuredWeights {
    try Interruption.check()
    return try format.randomWeights(
      rows: outputs, columns: inputs, group: group, symmetric: symmetric,
      instructionSet: instructionSet, pool: pool)
  }

  /// Reads a list of shapes: `format M N K [group] [symmetric]` a line, `#` begins a comment.
  static func list(path: String) throws(QuantError) -> [MatmulShape] {
    let text = String(decoding: try readText(path), as: UTF8.self)
    var shapes: [MatmulShape] = []
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let content = line.split(separator: "#", omittingEmptySubsequences: false).first ?? ""
      var words = content.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\r" })
      if words.isEmpty { continue }
      let symmetric = words.last == "symmetric"
      if symmetric { words.removeLast() }
      let numbers = words.dropFirst().compactMap { Int($0) }
      guard numbers.count == words.count - 1, (3...4).contains(numbers.count) else {
        throw QuantError(
          .invalidData, "\(path):\(number + 1)", "is no shape",
          remedy: "write: format M N K [group] [symmetric]")
      }
      shapes.append(
        try MatmulShape(
          format: String(words[0]), tokens: numbers[0], outputs: numbers[1], inputs: numbers[2],
          group: numbers.count > 3 ? numbers[3] : nil, symmetric: symmetric))
    }
    guard !shapes.isEmpty else {
      throw QuantError(
        .invalidData, path, "holds no shape", remedy: "write: format M N K [group] [symmetric]")
    }
    return shapes
  }
}
