import QuantKernels

/// Linear layers that read the same input, as one product: their outputs stand side by side in a
/// row.
///
/// Neighbors of one tensor type, or all of them ternary, are packed as one matrix, so that Q, K and V
/// cost one fork and join; files that mix types (Q4_K with Q6_K values) get one matrix a run.
final class StackedLinear: Sendable {
  let rows: Int
  let columns: Int
  private let blocks: [(weights: Weights, firstRow: Int)]
  /// Blocks of inputs whose products are added up in this order; empty where all inputs are one.
  private let inputParts: [InputPart]
  /// One value an output row, or nil when no member has a bias.
  let bias: FloatBuffer?
  /// Bytes that a product of one row reads.
  let byteCount: Int

  /// One member: a matrix of the file, a factor of its values and its bias, if any.
  struct Member {
    let tensor: GGUFTensor
    var scale: Float?
    var bias: [Float]?
    /// What takes the tensor's place.
    var int4: Int4Matrix?
    /// The outputs of one rank; nil: all.
    var outputs: Range<Int>?

    /// Outputs that are packed.
    var rows: Int { outputs?.count ?? tensor.rows }
  }

  /// How matrices become kernels' weights.
  struct Packing {
    let file: GGUFFile
    let instructionSet: InstructionSet
    let arithmetic: Arithmetic
    let ternary: TernaryWeights
    let i2sOrder: I2SOrder
    let pool: WorkerPool
    /// Ranges of inputs to add up one after the other; empty: all at once.
    var inputRanges: [Range<Int>] = []
  }

  /// The layer's products with some of its inputs.
  private struct InputPart: Sendable {
    let weights: PackedWeights
    /// The input of each of its columns; −1 is padding, which takes 0.
    let inputs: [Int32]
  }

  private enum Weights {
    case blocks(PackedWeights)
    case ternary(PackedTernary)

    var byteCount: Int {
      switch self {
      case .blocks(let weights): weights.byteCount
      case .ternary(let weights): weights.byteCount
      }
    }
  }

  init(_ members: [Member], columns: Int, packing: Packing) throws(QuantError) {
    var blocks: [(weights: Weights, firstRow: Int)] = []
    var parts: [InputPart] = []
    var firstRow = 0
    var next = 0
    if packing.inputRanges.isEmpty {
      while next < members.count {
        let (weights, count) = try Self.pack(members[next...], columns: columns, packing)
        blocks.append((weights, firstRow))
        firstRow += members[next..<next + count].reduce(0) { $0 + $1.rows }
        next += count
      }
    } else {
      for range in packing.inputRanges {
        parts.append(try Self.packPart(members, inputs: range, packing))
      }
      firstRow = members.reduce(0) { $0 + $1.rows }
    }
    self.blocks = blocks
    inputParts = parts
    rows = firstRow
    // A rank is given its own inputs only.
    self.columns =
      packing.inputRanges.isEmpty
      ? columns : packing.inputRanges.reduce(0) { $0 + $1.count }
    byteCount =
      blocks.reduce(0) { $0 + $1.weights.byteCount }
      + parts.reduce(0) { $0 + $1.weights.byteCount }
    if members.contains(where: { $0.bias != nil }) {
      bias = FloatBuffer(
        members.flatMap { member in
          guard let bias = member.bias else { return [Float](repeating: 0, count: member.rows) }
          return member.outputs.map { Array(bias[$0]) } ?? bias
        })
    } else {
      bias = nil
    }
  }

  /// Packs the products of a range of inputs, of members that are one matrix.
  ///
  /// Int4 columns in act-order are sorted by group on the rank itself; whoever moved their order into
  /// the layer before leaves them none.
  private static func packPart(
    _ members: [Member], inputs range: Range<Int>, _ packing: Packing
  ) throws(QuantError) -> InputPart {
    guard members.count == 1, let member = members.first else {
      throw QuantError(
        .unsupported, "linear layer", "\(members.count) matrices over parts of their inputs",
        remedy: "report it")
    }
    let first = packing.inputRanges.first?.lowerBound ?? 0
    func relative(_ inputs: some Sequence<Int>) -> [Int32] { inputs.map { Int32($0 - first) } }
    if let matrix = member.int4 {
      let (part, inputs) = try matrix.part(ofInputs: range)
      return InputPart(
        weights: try PackedWeights(
          part, name: member.tensor.name, instructionSet: packing.instructionSet),
        inputs: inputs.map { $0 < 0 ? -1 : $0 - Int32(first) })
    }
    let type = try ModelTensors(file: packing.file).type(of: member.tensor)
    guard !TernaryWeights.mayBeTernary(member.tensor), type.tailBytes == 0,
      range.lowerBound % type.blockElements == 0, range.count % type.blockElements == 0,
      let rowBytes = type.rowBytes(columns: member.tensor.columns),
      let partBytes = type.rowBytes(columns: range.count)
    else {
      throw QuantError(
        .unsupported, member.tensor.name,
        "inputs \(range) of a \(type.name) matrix are no whole blocks",
        remedy: "use fewer ranks, or a type with smaller blocks")
    }
    let bytes = packing.file.bytes(of: member.tensor)
    let start = range.lowerBound / type.blockElements * type.blockBytes
    var cut: [UInt8] = []
    cut.reserveCapacity(member.tensor.rows * partBytes)
    for row in 0..<member.tensor.rows {
      cut += bytes[row * rowBytes + start..<row * rowBytes + start + partBytes]
    }
    var packed: Result<PackedWeights, QuantError>?
    cut.withUnsafeBytes { bytes in
      packed = Result { () throws(QuantError) in
        try PackedWeights(
          type: type, parts: [(bytes: bytes, rows: member.tensor.rows)], columns: range.count,
          name: member.tensor.name, instructionSet: packing.instructionSet, pool: packing.pool)
      }
    }
    guard let packed else {
      throw QuantError(.invalidData, member.tensor.name, "has no bytes", remedy: "report it")
    }
    return InputPart(weights: try packed.get(), inputs: relative(range))
  }

  /// Packs the longest run of members that make one matrix, at least one.
  private static func pack(
    _ members: ArraySlice<Member>, columns: Int, _ packing: Packing
  ) throws(QuantError) -> (Weights, count: Int) {
    if let first = members.first, let matrix = first.int4 {
      // One matrix where orders and groups agree; else the first alone.
      let own = try first.outputs.map { rows throws(QuantError) in try matrix.rows(rows) } ?? matrix
      var joined = [own]
      for member in members.dropFirst() {
        guard let other = member.int4, other.groupSize == own.groupSize,
          other.inputPermutation == own.inputPermutation, other.offsets.isLike(own.offsets)
        else { break }
        joined.append(
          try member.outputs.map { rows throws(QuantError) in try other.rows(rows) } ?? other)
      }
      let weights = try PackedWeights(
        try Int4Matrix.joined(joined), name: first.tensor.name,
        instructionSet: packing.instructionSet)
      return (.blocks(weights), joined.count)
    }
    let ternary = members.prefix { TernaryWeights.mayBeTernary($0.tensor) && $0.int4 == nil }
    if let cut = ternary.first(where: { $0.outputs != nil }) {
      throw QuantError(
        .unsupported, cut.tensor.name, "ternary matrices are not cut over ranks",
        remedy: "use one rank")
    }
    // Kernels of blocks have float products of TQ types too, at an eighth of the floats' bytes.
    let takesBlocks =
      packing.arithmetic == .exact
      && ternary.allSatisfy {
        !TernaryWeights.hasOneScale($0.tensor) && $0.scale == nil
      }
    if !ternary.isEmpty, !takesBlocks,
      let matrix = try TernaryWeights.matrix(
        ternary, columns: columns, file: packing.file, order: packing.i2sOrder)
    {
      if packing.arithmetic == .exact { return (try exact(matrix, packing), ternary.count) }
      let weights = try PackedTernary(
        matrix, format: packing.ternary.format, instructionSet: packing.instructionSet,
        pool: packing.pool)
      return (.ternary(weights), ternary.count)
    }
    let type = try ModelTensors(file: packing.file).type(of: members[members.startIndex].tensor)
    let run = members.prefix { $0.tensor.type == type && $0.int4 == nil }
    if let scaled = run.first(where: { $0.scale != nil }) {
      throw QuantError(
        .unsupported, scaled.tensor.name, "a scale beside a matrix that is not ternary",
        remedy: "convert the model again, with the scales in its matrices")
    }
    let weights = try PackedWeights(
      type: type,
      parts: run.map { (bytes: Self.bytes(of: $0, packing.file), rows: $0.rows) },
      columns: columns, name: run.map(\.tensor.name).joined(separator: " + "),
      instructionSet: packing.instructionSet, pool: packing.pool)
    return (.blocks(weights), run.count)
  }

  /// A member's rows in the file.
  private static func bytes(of member: Member, _ file: GGUFFile) -> UnsafeRawBufferPointer {
    let bytes = file.bytes(of: member.tensor)
    guard let outputs = member.outputs, member.tensor.rows > 0 else { return bytes }
    let rowBytes = bytes.count / member.tensor.rows
    return UnsafeRawBufferPointer(
      rebasing: bytes[outputs.lowerBound * rowBytes..<outputs.upperBound * rowBytes])
  }

  /// Ternary kernels know int8 activations only; with float ones the weights are floats too.
  private static func exact(
    _ matrix: TernaryMatrix, _ packing: Packing
  ) throws(QuantError) -> Weights {
    let values = matrix.dequantized()
    var packed: Result<PackedWeights, QuantError>?
    values.withUnsafeBytes { bytes in
      packed = Result { () throws(QuantError) in
        try PackedWeights(
          type: .f32, parts: [(bytes: bytes, rows: matrix.rows)], columns: matrix.columns,
          name: "ternary", instructionSet: packing.instructionSet, pool: packing.pool)
      }
    }
    guard let packed else {
      throw QuantError(.invalidData, "ternary weights", "there are none", remedy: "report it")
    }
    return .blocks(try packed.get())
  }

  /// Bytes that a product of one row reads for the first `outputs`.
  func byteCount(outputs: Int) -> Int {
    guard inputParts.isEmpty else { return byteCount }
    return blocks.reduce(0) { bytes, block in
      let wanted = outputs - block.firstRow
      guard wanted > 0 else { return bytes }
      switch block.weights {
      case .blocks(let weights):
        return bytes + weights.byteCount * min(wanted, weights.rows) / weights.rows
      case .ternary(let weights): return bytes + weights.byteCount
      }
    }
  }

  /// `y[i] = W x[i]`, without the bias: `x` is `[count × columns]`, `y` `[count × rows]`, of whose
  /// rows the first `outputs` are written, and maybe more.
  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputs: Int,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    if !inputParts.isEmpty {
      return try addParts(
        x, count: count, into: y, arithmetic: arithmetic, workspace: workspace, pool: pool)
    }
    // By index: an unoptimized build allocates iterators, and a decode step must not, in tests
    // either.
    for index in 0..<blocks.count where blocks[index].firstRow < outputs {
      let y = y + blocks[index].firstRow
      switch blocks[index].weights {
      case .blocks(let weights):
        try weights.multiply(
          x, count: count, into: y, outputStride: rows,
          outputs: outputs - blocks[index].firstRow, arithmetic: arithmetic,
          workspace: workspace, pool: pool)
      case .ternary(let weights):
        try weights.multiply(
          x, count: count, into: y, outputStride: rows, workspace: workspace, pool: pool)
      }
    }
  }

  /// The products of all parts, added up in ascending order, each sum rounded: as an all-reduce over
  /// ranks adds them.
  private func addParts(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    for index in 0..<inputParts.count {
      let width = inputParts[index].inputs.count
      try workspace.reserveParts(
        taken: count * width, products: index == 0 ? 0 : count * rows)
      let taken = workspace.taken
      inputParts[index].inputs.withUnsafeBufferPointer { inputs in
        for row in 0..<count {
          let (from, to) = (x + row * columns, taken + row * width)
          for column in 0..<width {
            to[column] = inputs[column] < 0 ? 0 : from[Int(inputs[column])]
          }
        }
      }
      let products = index == 0 ? y : workspace.products
      try inputParts[index].weights.multiply(
        taken, count: count, into: products, outputStride: rows, arithmetic: arithmetic,
        workspace: workspace, pool: pool)
      if index > 0 { VectorOperations.add(products, into: y, count: count * rows) }
    }
  }
}

extension Int4Matrix {
  /// The products of a range of inputs: cut between groups where columns stand in the inputs' order
  /// and the range holds whole ones, else sorted by group within the range.
  ///
  /// - Returns: the part, and the input of each of its columns; −1 is padding.
  func part(ofInputs range: Range<Int>) throws(QuantError) -> (Int4Matrix, [Int32]) {
    let isWhole = range.lowerBound % groupSize == 0 && range.count % groupSize == 0
    guard inputPermutation == nil, isWhole else { return try sortedPart(ofInputs: range) }
    return (try storedColumns(range), range.map { Int32($0) })
  }
}

extension Int4Matrix.Offsets {
  fileprivate func isLike(_ other: Int4Matrix.Offsets) -> Bool {
    switch (self, other) {
    case (.symmetric, .symmetric), (.zeroPoints, .zeroPoints), (.minimums, .minimums): true
    default: false
    }
  }
}
