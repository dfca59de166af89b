// Names of the field.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CQuantKernels

/// How keys and values are stored.
///
/// The quantized types are ggml's: groups of 32 elements of a position share a half-precision scale
/// (the last group of a width that is no multiple of 32 is shorter).
///
/// Float types are read as the float32 numbers that their bits stand for, so attention over an f16 or
/// bf16 cache has the bits of attention over an f32 cache of those numbers. Quantized types are
/// multiplied as integers: a query head is rounded to 16-bit integers by one scale, and so are the
/// weights of a partition's 256 values; products and sums of those are exact. On normal data that
/// moves outputs by a normalized square error of about 1e-8, where the type itself loses 1e-5 (q8_0) to
/// 1e-2 (q4_0).
public enum KeyValueType: String, Sendable, Equatable, CaseIterable {
  /// float32, 4 bytes an element.
  case f32
  /// binary16, 2 bytes an element.
  case f16
  /// bfloat16, 2 bytes an element.
  case bf16
  /// 8-bit codes, 1.0625 bytes an element.
  case q8_0
  /// 4-bit codes, 0.5625 bytes an element.
  case q4_0

  /// Bytes of `width` elements of one position, rounded up.
  public func bytes(width: Int) -> Int {
    (qk_key_block_bytes(kernelType, width) + Int(QK_ATTENTION_BLOCK) - 1)
      / Int(QK_ATTENTION_BLOCK)
  }

  /// Of half the bits of f32, which a prompt widens once for all its rows.
  var isHalf: Bool { self == .f16 || self == .bf16 }
  var isFloat: Bool { self == .f32 || isHalf }

  var kernelType: qk_kv_type {
    switch self {
    case .f32: QK_KV_FLOAT
    case .f16: QK_KV_HALF
    case .bf16: QK_KV_BRAIN
    case .q8_0: QK_KV_Q8
    case .q4_0: QK_KV_Q4
    }
  }

  /// The largest magnitude that stays finite. A float halfway to the power of two past the largest
  /// half (or bfloat16) rounds to infinity; scales of quantized types are halves.
  var largestStorable: Float {
    let largestHalf = Float(65520).nextDown
    return switch self {
    case .f32: .greatestFiniteMagnitude
    case .f16: largestHalf
    case .bf16: Float(0x1.FFp127).nextDown
    case .q8_0: (127 * largestHalf).nextDown
    case .q4_0: (8 * largestHalf).nextDown
    }
  }
}
