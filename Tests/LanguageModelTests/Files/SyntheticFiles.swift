import LanguageModel
import QuantKernels

/// Small files that hold one of everything, for tests that take them apart.
enum SyntheticFiles {
  /// A value of every metadata type, by key.
  static let metadata: [(key: String, value: GGUFValue)] = [
    ("general.architecture", .text("llama")),
    ("t.u8", .uint8(200)), ("t.i8", .int8(-100)), ("t.u16", .uint16(60_000)),
    ("t.i16", .int16(-30_000)), ("t.u32", .uint32(4_000_000_000)),
    ("t.i32", .int32(-2_000_000_000)), ("t.f32", .float32(1.5)), ("t.yes", .bool(true)),
    ("t.no", .bool(false)), ("t.u64", .uint64(1 << 63 + 1)), ("t.i64", .int64(-1 << 62)),
    ("t.f64", .float64(0.1)), ("t.bytes", .string([0xff, 0, 0x0a, 0xc3])), ("t.empty", .string([])),
    ("tokens", .array(.string, [.text("a"), .string([]), .string([0xc4, 0xa0, 0xff])])),
    ("scores", .array(.float32, [.float32(0.5), .float32(-1.25)])),
    ("types", .array(.int32, [.int32(1), .int32(-3), .int32(6)])),
    ("flags", .array(.bool, [.bool(true), .bool(false)])),
    ("bytes", .array(.uint8, [.uint8(7), .uint8(255)])),
    ("wide", .array(.uint64, [.uint64(1), .uint64(UInt64(Int.max))])),
    ("none", .array(.float64, [])),
    (
      "nested",
      .array(
        .array,
        [
          .array(.int16, [.int16(1), .int16(2)]), .array(.string, [.text("x")]), .array(.bool, []),
        ])
    ),
  ]

  /// A tensor of every type that is computed with, of one to four dimensions.
  static let tensors: [(name: String, type: GGMLType, dimensions: [Int], bytes: [UInt8])] = {
    var tensors: [(name: String, type: GGMLType, dimensions: [Int], bytes: [UInt8])] = []
    for (index, type) in GGMLType.allCases.enumerated() {
      var dimensions = [[3], [1, 2], [2, 1, 2], [1, 2, 1, 2]][index % 4]
      dimensions[0] = dimensions[0] * type.blockElements
      let count = dimensions.reduce(1, *) / type.blockElements * type.blockBytes + type.tailBytes
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) }
      tensors.append(("blk.\(index).\(type.name)", type, dimensions, bytes))
    }
    return tensors
  }()

  static func writer() throws(QuantError) -> GGUFWriter {
    var writer = GGUFWriter()
    for (key, value) in metadata { try writer.set(key, value) }
    for tensor in tensors {
      try writer.addTensor(
        tensor.name, type: tensor.type, dimensions: tensor.dimensions, bytes: tensor.bytes)
    }
    return writer
  }

  /// All metadata types, and three small tensors, so that most of the file is header.
  static func smallGGUF() throws(QuantError) -> [UInt8] {
    var writer = GGUFWriter()
    for (key, value) in metadata { try writer.set(key, value) }
    try writer.addTensor(
      "a", type: .f32, dimensions: [2, 2], bytes: [UInt8](repeating: 1, count: 16))
    try writer.addTensor(
      "blk.0.attn_q.weight", type: .q4_0, dimensions: [32], bytes: [UInt8](repeating: 2, count: 18))
    try writer.addTensor("c", type: .f16, dimensions: [1, 1, 1, 3], bytes: [0, 1, 2, 3, 4, 5])
    return try writer.serialized()
  }

  static func safetensorsWriter() throws(QuantError) -> SafetensorsWriter {
    var writer = SafetensorsWriter(metadata: ["format": "pt", "note": "tab\t\"quote\" ☃ \u{1}"])
    func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0) } }
    try writer.addTensor("b.weight", type: .f32, shape: [2, 3], bytes: bytes(24))
    try writer.addTensor("a \"x\" ☃", type: .f16, shape: [3], bytes: bytes(6))
    try writer.addTensor("qweight", type: .i32, shape: [1, 2], bytes: bytes(8))
    try writer.addTensor("ids", type: .i64, shape: [2], bytes: bytes(16))
    try writer.addTensor("half", type: .bf16, shape: [1, 1, 2], bytes: bytes(4))
    try writer.addTensor("scalar", type: .f64, shape: [], bytes: bytes(8))
    try writer.addTensor("bytes", type: .u8, shape: [3], bytes: bytes(3))
    try writer.addTensor("empty", type: .f32, shape: [0, 4], bytes: [])
    return writer
  }
}

/// A GGUF file put together by hand, so that it can be wrong.
struct RawGGUF {
  var version: UInt32 = 3
  var tensorCount: UInt64?
  var metadataCount: UInt64?
  private var entries: [[UInt8]] = []
  private var descriptions: [[UInt8]] = []
  var data: [UInt8] = []
  var alignment = 32

  static func number(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  static func string(_ bytes: [UInt8]) -> [UInt8] { number(UInt64(bytes.count)) + bytes }

  mutating func add(_ key: String, type: UInt32, _ value: [UInt8]) {
    entries.append(RawGGUF.string(Array(key.utf8)) + RawGGUF.number(type) + value)
  }

  mutating func add(rawEntry: [UInt8]) { entries.append(rawEntry) }

  mutating func addTensor(
    _ name: [UInt8], _ dimensions: [UInt64], type: UInt32, offset: UInt64, rank: UInt32? = nil
  ) {
    descriptions.append(
      RawGGUF.string(name) + RawGGUF.number(rank ?? UInt32(dimensions.count))
        + dimensions.flatMap { RawGGUF.number($0) } + RawGGUF.number(type) + RawGGUF.number(offset))
  }

  var bytes: [UInt8] {
    var bytes = Array("GGUF".utf8) + RawGGUF.number(version)
    bytes += RawGGUF.number(tensorCount ?? UInt64(descriptions.count))
    bytes += RawGGUF.number(metadataCount ?? UInt64(entries.count))
    bytes += entries.flatMap { $0 } + descriptions.flatMap { $0 }
    bytes += [UInt8](repeating: 0, count: (alignment - bytes.count % alignment) % alignment)
    return bytes + data
  }
}

/// A safetensors file with a header as it is given.
func rawSafetensors(_ header: String, data: Int = 0, length: UInt64? = nil) -> [UInt8] {
  RawGGUF.number(length ?? UInt64(header.utf8.count)) + Array(header.utf8)
    + [UInt8](repeating: 5, count: data)
}
