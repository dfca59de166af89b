import QuantKernels

/// The formats that `bench matmul` knows: the command line's table of them.
enum WeightFormat: Equatable {
  case int4
  case type(GGMLType)
  case ternary(PackedTernary.Format)
  /// Ternary weights of another program's file, which are repacked to the better of this package's
  /// formats.
  case imported(TernaryFormat)

  static let types: [GGMLType] = [.q4_0, .q4_1, .q8_0, .q4_k, .q5_k, .q6_k, .f16, .bf16, .f32]
  static var names: String {
    (["int4"] + types.map { $0.name.lowercased() } + PackedTernary.Format.allCases.map(\.rawValue)
      + imported.map(\.name)).joined(separator: ", ")
  }
  private static let imported: [(name: String, format: TernaryFormat)] = [
    ("i2_s", .i2s(.x86)), ("tq1_0", .tq1_0), ("tq2_0", .tq2_0), ("iq1_bn", .iq1BN),
    ("iq2_bn", .iq2BN),
  ]

  /// - Throws: ``QuantError`` for a name that is unknown (64).
  init(named name: String) throws(QuantError) {
    if name == "int4" {
      self = .int4
    } else if let type = WeightFormat.types.first(where: { $0.name.lowercased() == name }) {
      self = .type(type)
    } else if let ternary = PackedTernary.Format(rawValue: name) {
      self = .ternary(ternary)
    } else if let imported = WeightFormat.imported.first(where: { $0.name == name }) {
      self = .imported(imported.format)
    } else {
      throw QuantError(
        .invalidArgument, "--format \(name)", "no such format",
        remedy: "choose one of \(WeightFormat.names)")
    }
  }

  /// Packed weights of random codes whose values have the size of a model's.
  func randomWeights(
    rows: Int, columns: Int, group: Int?, symmetric: Bool, instructionSet: InstructionSet,
    pool: WorkerPool
  ) throws(QuantError) -> any MeasuredWeights {
    switch self {
    case .ternary(let format):
      return try PackedTernary(
        try WeightFormat.randomTernary(rows: rows, columns: columns), format: format,
        instructionSet: instructionSet, pool: pool)
    case .imported(let format):
      let bytes = try WeightFormat.randomTernary(rows: rows, columns: columns).packed(as: format)
      return try PackedTernary(
        try TernaryMatrix(format, bytes: bytes, rows: rows, columns: columns),
        format: try TernaryFormatChoice.measured(instructionSet: instructionSet, pool: pool).format,
        instructionSet: instructionSet, pool: pool)
    case .int4:
      let matrix = try WeightFormat.randomInt4(
        rows: rows, columns: columns, group: group ?? min(128, columns), symmetric: symmetric)
      return try PackedWeights(matrix, instructionSet: instructionSet)
    case .type(let type):
      let bytes = try WeightFormat.randomBlocks(type, rows: rows, columns: columns)
      var packed: Result<PackedWeights, QuantError>?
      bytes.withUnsafeBytes { bytes in
        packed = Result { () throws(QuantError) in
          try PackedWeights(
            type: type, parts: [(bytes: bytes, rows: rows)], columns: columns, name: type.name,
            instructionSet: instructionSet, pool: pool)
        }
      }
      guard let packed else {
        throw QuantError(.invalidData, type.name, "nothing was packed", remedy: "report it")
      }
      return try packed.get()
    }
  }

  private static func product(
    _ a: Int, _ b: Int, below limit: Int, rows: Int, columns: Int
  ) throws(QuantError) -> Int {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    guard !overflow, product < limit else {
      throw QuantError(
        .outOfMemory, "weights \(rows)×\(columns)", "too many elements",
        remedy: "choose a smaller shape")
    }
    return product
  }

  private static func randomTernary(rows: Int, columns: Int) throws(QuantError) -> TernaryMatrix {
    let elements = try product(rows, columns, below: 1 << 36, rows: rows, columns: columns)
    var random = SplitRandom(seed: 4)
    // Three of four bytes' values are codes; the fourth becomes 0, as about half of a model's are.
    let codes = try randomBytes(elements, &random, mask: 3).map { $0 == 3 ? 1 : $0 }
    // Exact in binary16, as the scales of files are.
    return try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: .tensor(0x1p-6))
  }

  private static func randomInt4(
    rows: Int, columns: Int, group: Int, symmetric: Bool
  ) throws(QuantError) -> Int4Matrix {
    var random = SplitRandom(seed: 2)
    guard group > 0, columns % group == 0 else {
      throw QuantError(
        .invalidArgument, "--group \(group)", "does not divide K = \(columns)",
        remedy: "choose a multiple of 32 that divides K, or K itself")
    }
    let elements = try product(rows, columns, below: 1 << 36, rows: rows, columns: columns)
    let groups = rows * (columns / group)
    let codes = try randomBytes(elements, &random, mask: 15)
    return try Int4Matrix(
      rows: rows, columns: columns, groupSize: group,
      codes: codes,
      // Exact in binary16, as the scales of files are.
      scales: (0..<groups).map { _ in Float(16 + random.next() % 16) * 0x1p-12 },
      offsets: symmetric
        ? .symmetric
        : .zeroPoints((0..<groups).map { _ in UInt8(truncatingIfNeeded: 4 + random.next() % 8) }))
  }

  private static func randomBlocks(
    _ type: GGMLType, rows: Int, columns: Int
  ) throws(QuantError) -> [UInt8] {
    guard let rowBytes = type.rowBytes(columns: columns) else {
      throw QuantError(
        .invalidArgument, "--k \(columns)",
        "is no multiple of the \(type.blockElements) of a block",
        remedy: "choose such a K")
    }
    let total = try product(rows, rowBytes, below: 1 << 37, rows: rows, columns: columns)
    var random = SplitRandom(seed: 3)
    let half: UInt16 = 0x1C00  // 2⁻⁸
    switch type {
    case .f32: return floats(total / 4, &random) { $0.bitPattern }
    case .f16: return floats(total / 2, &random) { HalfPrecision.half($0) }
    case .bf16:
      return floats(total / 2, &random) { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }
    default: break
    }
    var bytes = try randomBytes(total, &random, mask: 255)
    // Where a block holds its binary16 scales (ggml's block_q… structures).
    let scales: [Int] =
      switch type {
      case .q4_1, .q5_1, .q4_k, .q5_k: [0, 2]
      case .q6_k: [208]
      default: [0]
      }
    for block in 0..<total / type.blockBytes {
      for scale in scales {
        bytes[block * type.blockBytes + scale] = UInt8(truncatingIfNeeded: half)
        bytes[block * type.blockBytes + scale + 1] = UInt8(truncatingIfNeeded: half >> 8)
      }
    }
    return bytes
  }

  /// - Throws: ``QuantError`` when Ctrl-C comes.
  private static func randomBytes(
    _ count: Int, _ random: inout SplitRandom, mask: UInt8
  ) throws(QuantError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    for start in stride(from: 0, to: count, by: 1 << 20) {
      try Interruption.check()
      for index in start..<min(count, start + (1 << 20)) {
        bytes[index] = UInt8(truncatingIfNeeded: random.next() >> 24) & mask
      }
    }
    return bytes
  }

  private static func floats<Bits: FixedWidthInteger>(
    _ count: Int, _ random: inout SplitRandom, _ encode: (Float) -> Bits
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * MemoryLayout<Bits>.size)
    for _ in 0..<count {
      withUnsafeBytes(of: encode(random.normal() * 0x1p-6).littleEndian) {
        bytes.append(contentsOf: $0)
      }
    }
    return bytes
  }
}

/// SplitMix64 with a rough normal distribution, for weights and activations of benchmarks.
struct SplitRandom {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// The sum of four 16-bit uniforms, scaled to variance 1.
  mutating func normal() -> Float {
    let bits = next()
    var sum: Float = 0
    for part in 0..<4 { sum += Float(UInt16(truncatingIfNeeded: bits >> UInt64(16 * part))) }
    return (sum * 0x1p-16 - 2) * 1.7320508
  }
}
