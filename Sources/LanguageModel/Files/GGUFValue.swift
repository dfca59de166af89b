/// The types of GGUF metadata values, by their number in the file.
public enum GGUFValueType: UInt32, Sendable, CaseIterable {
  /// An unsigned 8-bit integer.
  case uint8 = 0
  /// A signed 8-bit integer.
  case int8 = 1
  /// An unsigned 16-bit integer.
  case uint16 = 2
  /// A signed 16-bit integer.
  case int16 = 3
  /// An unsigned 32-bit integer.
  case uint32 = 4
  /// A signed 32-bit integer.
  case int32 = 5
  /// An IEEE 754 binary32 number.
  case float32 = 6
  /// A truth value, one byte.
  case bool = 7
  /// A string: its length as 64 bits, then bytes.
  case string = 8
  /// An array: type and number of elements, then these.
  case array = 9
  /// An unsigned 64-bit integer.
  case uint64 = 10
  /// A signed 64-bit integer.
  case int64 = 11
  /// An IEEE 754 binary64 number.
  case float64 = 12

  /// Bytes of a value; nil for strings and arrays, whose length varies.
  public var fixedBytes: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }

  /// The fewest bytes a value can take: an empty string is its length, an empty array its type and
  /// count.
  var minimumBytes: Int {
    switch self {
    case .string: 8
    case .array: 12
    default: fixedBytes ?? 1
    }
  }
}

/// A GGUF metadata value in memory: what ``GGUFWriter`` writes and ``GGUFMetadata/value(_:limit:)``
/// gives.
///
/// Strings are bytes: files hold tokens that are no valid UTF-8.
public indirect enum GGUFValue: Sendable, Equatable {
  /// An unsigned 8-bit integer.
  case uint8(UInt8)
  /// A signed 8-bit integer.
  case int8(Int8)
  /// An unsigned 16-bit integer.
  case uint16(UInt16)
  /// A signed 16-bit integer.
  case int16(Int16)
  /// An unsigned 32-bit integer.
  case uint32(UInt32)
  /// A signed 32-bit integer.
  case int32(Int32)
  /// An IEEE 754 binary32 number.
  case float32(Float)
  /// A truth value.
  case bool(Bool)
  /// A string, which need not be UTF-8.
  case string([UInt8])
  /// Elements of one type; each element must be of it.
  case array(GGUFValueType, [GGUFValue])
  /// An unsigned 64-bit integer.
  case uint64(UInt64)
  /// A signed 64-bit integer.
  case int64(Int64)
  /// An IEEE 754 binary64 number.
  case float64(Double)

  /// A string value from text.
  public static func text(_ text: String) -> GGUFValue { .string(Array(text.utf8)) }

  /// The type that the value is stored as.
  public var type: GGUFValueType {
    switch self {
    case .uint8: .uint8
    case .int8: .int8
    case .uint16: .uint16
    case .int16: .int16
    case .uint32: .uint32
    case .int32: .int32
    case .float32: .float32
    case .bool: .bool
    case .string: .string
    case .array: .array
    case .uint64: .uint64
    case .int64: .int64
    case .float64: .float64
    }
  }

  /// The value where it is of an integer type and fits `Int`.
  public var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    case .float32, .float64, .bool, .string, .array: nil
    }
  }

  /// The value where it is a number; 64-bit integers round to the nearest double.
  public var float: Double? {
    switch self {
    case .float32(let value): Double(value)
    case .float64(let value): value
    case .uint64(let value): Double(value)
    default: integer.map { Double($0) }
    }
  }
}

extension ByteCursor {
  /// A value of a fixed size; nil at the end of the bytes, for a string or an array, and for a bool
  /// byte other than 0 and 1.
  mutating func scalar(_ type: GGUFValueType) -> GGUFValue? {
    switch type {
    case .uint8: return uint8().map { .uint8($0) }
    case .int8: return uint8().map { .int8(Int8(bitPattern: $0)) }
    case .uint16: return uint16().map { .uint16($0) }
    case .int16: return uint16().map { .int16(Int16(bitPattern: $0)) }
    case .uint32: return uint32().map { .uint32($0) }
    case .int32: return uint32().map { .int32(Int32(bitPattern: $0)) }
    case .float32: return uint32().map { .float32(Float(bitPattern: $0)) }
    case .bool:
      guard let byte = uint8(), byte <= 1 else { return nil }
      return .bool(byte == 1)
    case .uint64: return uint64().map { .uint64($0) }
    case .int64: return uint64().map { .int64(Int64(bitPattern: $0)) }
    case .float64: return uint64().map { .float64(Double(bitPattern: $0)) }
    case .string, .array: return nil
    }
  }
}
