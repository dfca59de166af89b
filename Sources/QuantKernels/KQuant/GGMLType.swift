// The case names are the formats' own.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

/// The element types of GGUF tensors that this package reads, by their number in the file.
///
/// A type stores `blockElements` consecutive elements of a row in `blockBytes` bytes.
public enum GGMLType: UInt32, Sendable, CaseIterable {
  /// IEEE 754 binary32.
  case f32 = 0
  /// IEEE 754 binary16.
  case f16 = 1
  /// Blocks of 32: a scale, 4-bit codes centered on 8.
  case q4_0 = 2
  /// Blocks of 32: a scale and a minimum, 4-bit codes.
  case q4_1 = 3
  /// Blocks of 32: a scale, 5-bit codes centered on 16.
  case q5_0 = 6
  /// Blocks of 32: a scale and a minimum, 5-bit codes.
  case q5_1 = 7
  /// Blocks of 32: a scale, signed bytes.
  case q8_0 = 8
  /// Blocks of 256: eight groups of 32 with 6-bit scales and minimums, 4-bit codes.
  case q4_k = 12
  /// Blocks of 256 like Q4_K's, with 5-bit codes.
  case q5_k = 13
  /// Blocks of 256: sixteen groups of 16 with signed 8-bit scales, 6-bit codes centered on 32.
  case q6_k = 14
  /// The upper half of a binary32.
  case bf16 = 30
  /// Blocks of 256: five ternary digits a byte, a scale.
  case tq1_0 = 34
  /// Blocks of 256: 2-bit codes centered on 1, a scale.
  case tq2_0 = 35
  /// microsoft/BitNet's 2-bit codes centered on 1, 128 consecutive elements of the whole tensor in 32
  /// bytes, and one scale in ``tailBytes`` behind them all.
  ///
  /// The number is that of BitNet's fork; ggml gave it to a type that no file has. Blocks are those of
  /// files made on x86; see ``I2SOrder`` for the others, which a file cannot be told from. The fork's
  /// further numbers (37 I8_S, 38 TL1, 39 TL2) are not read: 39 is MXFP4 in ggml.
  case i2_s = 36

  /// Elements in one block; a row's length must be a multiple of it.
  public var blockElements: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
    case .i2_s: 128
    case .q4_k, .q5_k, .q6_k, .tq1_0, .tq2_0: 256
    }
  }

  /// Bytes of one block.
  public var blockBytes: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .q4_0: 18
    case .q4_1: 20
    case .q5_0: 22
    case .q5_1: 24
    case .q8_0: 34
    case .q4_k: 144
    case .q5_k: 176
    case .q6_k: 210
    case .tq1_0: 54
    case .tq2_0: 66
    case .i2_s: 32
    }
  }

  /// Bytes behind a tensor's last block: 32 in I2_S, whose first four are the tensor's float32 scale;
  /// otherwise none.
  public var tailBytes: Int { self == .i2_s ? 32 : 0 }

  /// The name GGUF tools print: `Q4_0`, `F16`, …
  public var name: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .bf16: "BF16"
    case .q4_0: "Q4_0"
    case .q4_1: "Q4_1"
    case .q5_0: "Q5_0"
    case .q5_1: "Q5_1"
    case .q8_0: "Q8_0"
    case .q4_k: "Q4_K"
    case .q5_k: "Q5_K"
    case .q6_k: "Q6_K"
    case .tq1_0: "TQ1_0"
    case .tq2_0: "TQ2_0"
    case .i2_s: "I2_S"
    }
  }

  /// Bytes of a row of `columns` elements without a tail, or nil when `columns` is no multiple of the block.
  public func rowBytes(columns: Int) -> Int? {
    guard columns >= 0, columns % blockElements == 0 else { return nil }
    let (bytes, overflow) = (columns / blockElements).multipliedReportingOverflow(by: blockBytes)
    return overflow ? nil : bytes
  }

  /// Bytes of a tensor of `elements`, its tail with it, or nil when they are no whole number of blocks
  /// or the count overflows.
  public func tensorBytes(elements: Int) -> Int? {
    guard let blocks = rowBytes(columns: elements) else { return nil }
    let (bytes, overflow) = blocks.addingReportingOverflow(tailBytes)
    return overflow ? nil : bytes
  }
}
