/// Reads little-endian fields one after another; past the end every read gives nil and moves
/// nothing.
///
/// All offsets stay within `0...bytes.count`, so no sum here can overflow.
struct ByteCursor {
  let bytes: UnsafeRawBufferPointer
  private(set) var offset: Int

  init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
    self.bytes = bytes
    self.offset = min(max(offset, 0), bytes.count)
  }

  var remaining: Int { bytes.count - offset }

  mutating func uint8() -> UInt8? {
    guard remaining >= 1 else { return nil }
    let value = bytes[offset]
    offset += 1
    return value
  }

  mutating func uint16() -> UInt16? {
    guard remaining >= 2 else { return nil }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
    offset += 2
    return UInt16(littleEndian: value)
  }

  mutating func uint32() -> UInt32? {
    guard remaining >= 4 else { return nil }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    offset += 4
    return UInt32(littleEndian: value)
  }

  mutating func uint64() -> UInt64? {
    guard remaining >= 8 else { return nil }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    offset += 8
    return UInt64(littleEndian: value)
  }

  /// A 64-bit count of things that take at least `minimumBytes` each; nil where the rest of the
  /// bytes cannot hold so many. Whoever reserves memory by such a count reserves in proportion to
  /// the file.
  mutating func count(ofAtLeast minimumBytes: Int) -> Int? {
    let start = offset
    guard let value = uint64() else { return nil }
    guard value <= UInt64(remaining / minimumBytes) else {
      offset = start
      return nil
    }
    return Int(value)
  }

  /// The next `count` bytes.
  mutating func slice(_ count: Int) -> UnsafeRawBufferPointer? {
    guard count >= 0, count <= remaining else { return nil }
    let slice = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
    offset += count
    return slice
  }

  /// A 64-bit length and that many bytes.
  mutating func string() -> UnsafeRawBufferPointer? {
    let start = offset
    guard let count = count(ofAtLeast: 1), let slice = slice(count) else {
      offset = start
      return nil
    }
    return slice
  }
}

/// Orders byte strings by their bytes, a prefix first; negative, zero or positive.
///
/// Names are compared by bytes because `String` holds canonically equivalent spellings for equal.
func compareBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
  let common = min(a.count, b.count)
  if common > 0, let first = a.baseAddress, let second = b.baseAddress {
    let order = memcmp(first, second, common)
    if order != 0 { return Int(order) }
  }
  return a.count - b.count
}

/// A name from a file as it may stand in a one-line message: control characters and quotes escaped,
/// at most 80 characters.
func quoted(_ name: String) -> String {
  var text = "'"
  for scalar in name.unicodeScalars.prefix(80) {
    switch scalar {
    case "'", "\\": text += "\\" + String(scalar)
    default:
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
        text += "\\u{" + String(scalar.value, radix: 16) + "}"
      default: text.unicodeScalars.append(scalar)
      }
    }
  }
  if name.unicodeScalars.dropFirst(80).first != nil { text += "…" }
  return text + "'"
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif
