// The case names are the format's own.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

/// The element types of safetensors files, in the order of the format's own library (`Dtype`), by
/// which writers sort tensors.
public enum SafetensorsType: String, Sendable, CaseIterable {
  /// Truth values, a byte each.
  case bool = "BOOL"
  /// 4-bit floats, two a byte.
  case f4 = "F4"
  /// 6-bit floats, 2 bits of exponent.
  case f6_e2m3 = "F6_E2M3"
  /// 6-bit floats, 3 bits of exponent.
  case f6_e3m2 = "F6_E3M2"
  /// Unsigned 8-bit integers.
  case u8 = "U8"
  /// Signed 8-bit integers.
  case i8 = "I8"
  /// 8-bit floats, 5 bits of exponent.
  case f8_e5m2 = "F8_E5M2"
  /// 8-bit floats, 4 bits of exponent.
  case f8_e4m3 = "F8_E4M3"
  /// 8-bit powers of two.
  case f8_e8m0 = "F8_E8M0"
  /// Signed 16-bit integers.
  case i16 = "I16"
  /// Unsigned 16-bit integers.
  case u16 = "U16"
  /// IEEE 754 binary16.
  case f16 = "F16"
  /// bfloat16.
  case bf16 = "BF16"
  /// Signed 32-bit integers.
  case i32 = "I32"
  /// Unsigned 32-bit integers.
  case u32 = "U32"
  /// IEEE 754 binary32.
  case f32 = "F32"
  /// Complex numbers of two binary32.
  case c64 = "C64"
  /// IEEE 754 binary64.
  case f64 = "F64"
  /// Signed 64-bit integers.
  case i64 = "I64"
  /// Unsigned 64-bit integers.
  case u64 = "U64"

  /// Bits of an element.
  public var bits: Int {
    switch self {
    case .f4: 4
    case .f6_e2m3, .f6_e3m2: 6
    case .bool, .u8, .i8, .f8_e5m2, .f8_e4m3, .f8_e8m0: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }

  /// Bytes of a tensor; nil when the shape is negative, its size overflows or ends within a byte.
  public func byteCount(shape: [Int]) -> Int? {
    var total = bits
    for size in shape {
      let (product, overflow) = total.multipliedReportingOverflow(by: size)
      if size < 0 || overflow { return nil }
      total = product
    }
    return total % 8 == 0 ? total / 8 : nil
  }
}

/// One tensor of a safetensors file.
public struct SafetensorsTensor: Sendable, Equatable {
  /// The key in the file's header.
  public let name: String
  /// Type of the elements.
  public let type: SafetensorsType
  /// Sizes, the slowest first (row-major: the last one is a row's length); empty for a scalar.
  public let shape: [Int]
  /// Where the tensor's bytes begin, counted from the start of the file.
  public let offset: Int
  /// Bytes of the tensor.
  public let byteCount: Int

  public static func == (a: SafetensorsTensor, b: SafetensorsTensor) -> Bool {
    a.name.utf8.elementsEqual(b.name.utf8) && a.type == b.type && a.shape == b.shape
      && a.offset == b.offset && a.byteCount == b.byteCount
  }
}
