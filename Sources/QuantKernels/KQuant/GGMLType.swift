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

  /// Elements in one block; a row's length must be a multiple of it.
  public var blockElements: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
    case .q4_k, .q5_k, .q6_k: 256
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
    }
  }

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
    }
  }

  /// Bytes of a row of `columns` elements, or nil when `columns` is no multiple of the block.
  public func rowBytes(columns: Int) -> Int? {
    guard columns >= 0, columns % blockElements == 0 else { return nil }
    let (bytes, overflow) = (columns / blockElements).multipliedReportingOverflow(by: blockBytes)
    return overflow ? nil : bytes
  }
}
