import QuantKernels

/// The keys and values of a GGUF file's header, read in place.
///
/// Nothing is copied until it is asked for: a view keeps 12 bytes a key, so a header cannot make it
/// grow beyond the file. Every accessor gives nil for a key that is absent or of another type.
/// Keeps the file mapped.
///
/// Lookups cost O(log keys) comparisons, arrays O(elements). Format:
/// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
public struct GGUFMetadata: Sendable {
  let file: MappedFile
  /// Where each entry (its key's length) begins in the file, in the file's order.
  private let offsets: [Int]
  /// Entries by the bytes of their keys.
  private let sorted: [UInt32]

  /// An entry's place in the file.
  struct Entry {
    let key: UnsafeRawBufferPointer
    let type: GGUFValueType
    /// The first byte after the type.
    let value: Int
  }

  /// - Parameters:
  ///   - offsets: beginnings of entries that ``GGUFHeaderParser`` has walked through.
  /// - Throws: `invalidData` when two entries share a key.
  init(file: MappedFile, offsets: [Int]) throws(QuantError) {
    self.file = file
    self.offsets = offsets
    defer { withExtendedLifetime(file) {} }
    let bytes = file.bytes
    func key(_ entry: UInt32) -> UnsafeRawBufferPointer {
      var cursor = ByteCursor(bytes, at: offsets[Int(entry)])
      return cursor.string() ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }
    let sorted = (0..<UInt32(offsets.count)).sorted { compareBytes(key($0), key($1)) < 0 }
    for (a, b) in zip(sorted, sorted.dropFirst()) where compareBytes(key(a), key(b)) == 0 {
      throw QuantError(
        .invalidData, file.path,
        "metadata key \(quoted(String(decoding: key(a), as: UTF8.self))) appears twice",
        remedy: "fetch the file again or convert the model again")
    }
    self.sorted = sorted
  }

  /// How many keys there are.
  public var count: Int { offsets.count }

  /// All keys, in the file's order. O(keys), copied.
  public var keys: [String] {
    offsets.compactMap { offset in
      entry(at: offset).map { String(decoding: $0.key, as: UTF8.self) }
    }
  }

  /// The type of a key's value.
  public func type(of key: String) -> GGUFValueType? { find(key)?.type }

  /// The type of an array's elements.
  public func elementType(of key: String) -> GGUFValueType? { array(key)?.elementType }

  /// How many elements an array has.
  public func count(of key: String) -> Int? { array(key)?.count }

  /// A string; bytes that are no valid UTF-8 become U+FFFD.
  public func string(_ key: String) -> String? {
    bytes(key).map { String(decoding: $0, as: UTF8.self) }
  }

  /// A string's bytes, as they are.
  public func stringBytes(of key: String) -> [UInt8]? { bytes(key).map { Array($0) } }

  /// An integer of any width that fits `Int`.
  public func integer(_ key: String) -> Int? { scalar(key)?.integer }

  /// A number of any type; 64-bit integers round to the nearest double.
  public func float(_ key: String) -> Double? { scalar(key)?.float }

  /// A truth value; nil for an absent key or a value of another type.
  public func bool(_ key: String) -> Bool? {
    guard case .bool(let value)? = scalar(key) else { return nil }
    return value
  }

  /// The strings of an array of strings, as bytes.
  public func stringBytes(_ key: String) -> [[UInt8]]? {
    var strings: [[UInt8]] = []
    guard let array = array(key), array.elementType == .string else { return nil }
    strings.reserveCapacity(array.count)
    guard forEachString(key, { strings.append(Array($0)) }) else { return nil }
    return strings
  }

  /// Calls `body` with the bytes of each string of an array of strings, in order, without copying.
  ///
  /// The bytes are valid during the call. Returns false, having called nothing, when the key is no
  /// array of strings.
  ///
  /// - Throws: what `body` throws.
  @discardableResult
  public func forEachString<E: Error>(
    _ key: String, _ body: (UnsafeRawBufferPointer) throws(E) -> Void
  ) throws(E) -> Bool {
    guard let array = array(key), array.elementType == .string else { return false }
    var cursor = ByteCursor(file.bytes, at: array.start)
    for _ in 0..<array.count {
      guard let string = cursor.string() else { return true }
      try body(string)
    }
    return true
  }

  /// The elements of an array of numbers, rounded to float32.
  ///
  /// Nil also where the copy would take more than 16 MiB and four times the file.
  public func floats(_ key: String) -> [Float]? {
    numbers(key) { $0.float.map { Float($0) } }
  }

  /// The elements of an array of integers that all fit `Int`.
  ///
  /// Nil also where the copy would take more than 16 MiB and four times the file.
  public func integers(_ key: String) -> [Int]? { numbers(key) { $0.integer } }

  /// The elements of an array of bools.
  public func bools(_ key: String) -> [Bool]? {
    numbers(key) { value in
      guard case .bool(let bool) = value else { return nil }
      return bool
    }
  }

  /// A copy of any value, of its arrays only the first `limit` elements.
  ///
  /// An element takes up to 40 bytes here against as little as one in the file, so use a limit, or
  /// the typed accessors, for arrays of unknown length.
  public func value(_ key: String, limit: Int = .max) -> GGUFValue? {
    guard let entry = find(key) else { return nil }
    var cursor = ByteCursor(file.bytes, at: entry.value)
    return GGUFMetadata.value(&cursor, entry.type, limit: max(0, limit), depth: 0)
  }

  /// The bytes of an entry's type and value as they stand in the file, for a verbatim copy.
  func encodedValue(_ key: String) -> UnsafeRawBufferPointer? {
    guard let entry = find(key) else { return nil }
    var cursor = ByteCursor(file.bytes, at: entry.value)
    guard GGUFHeaderParser.skip(&cursor, entry.type, depth: 0) == nil else { return nil }
    return UnsafeRawBufferPointer(rebasing: file.bytes[(entry.value - 4)..<cursor.offset])
  }

  // MARK: Walking

  private func entry(at offset: Int) -> Entry? {
    var cursor = ByteCursor(file.bytes, at: offset)
    guard let key = cursor.string(), let number = cursor.uint32(),
      let type = GGUFValueType(rawValue: number)
    else { return nil }
    return Entry(key: key, type: type, value: cursor.offset)
  }

  private func find(_ key: String) -> Entry? {
    var key = key
    return key.withUTF8 { utf8 in
      let wanted = UnsafeRawBufferPointer(utf8)
      var low = 0
      var high = sorted.count
      while low < high {
        let middle = (low + high) / 2
        guard let entry = entry(at: offsets[Int(sorted[middle])]) else { return nil }
        let order = compareBytes(entry.key, wanted)
        if order == 0 { return entry }
        if order < 0 { low = middle + 1 } else { high = middle }
      }
      return nil
    }
  }

  private func scalar(_ key: String) -> GGUFValue? {
    guard let entry = find(key) else { return nil }
    var cursor = ByteCursor(file.bytes, at: entry.value)
    return cursor.scalar(entry.type)
  }

  private func bytes(_ key: String) -> UnsafeRawBufferPointer? {
    guard let entry = find(key), entry.type == .string else { return nil }
    var cursor = ByteCursor(file.bytes, at: entry.value)
    return cursor.string()
  }

  private func array(_ key: String) -> (elementType: GGUFValueType, count: Int, start: Int)? {
    guard let entry = find(key), entry.type == .array else { return nil }
    var cursor = ByteCursor(file.bytes, at: entry.value)
    guard let number = cursor.uint32(), let type = GGUFValueType(rawValue: number),
      let count = cursor.count(ofAtLeast: type.minimumBytes)
    else { return nil }
    return (type, count, cursor.offset)
  }

  private func numbers<T>(_ key: String, _ convert: (GGUFValue) -> T?) -> [T]? {
    guard let array = array(key), array.elementType.fixedBytes != nil,
      array.count <= max(1 << 24, 4 * file.bytes.count) / MemoryLayout<T>.stride
    else { return nil }
    var values: [T] = []
    values.reserveCapacity(array.count)
    var cursor = ByteCursor(file.bytes, at: array.start)
    for _ in 0..<array.count {
      guard let element = cursor.scalar(array.elementType), let value = convert(element) else {
        return nil
      }
      values.append(value)
    }
    return values
  }

  private static func value(
    _ cursor: inout ByteCursor, _ type: GGUFValueType, limit: Int, depth: Int
  ) -> GGUFValue? {
    switch type {
    case .string: return cursor.string().map { .string(Array($0)) }
    case .array:
      guard depth < GGUFHeaderParser.maximumDepth, let number = cursor.uint32(),
        let elementType = GGUFValueType(rawValue: number),
        let count = cursor.count(ofAtLeast: elementType.minimumBytes)
      else { return nil }
      var elements: [GGUFValue] = []
      for index in 0..<count {
        if index < limit {
          guard let element = value(&cursor, elementType, limit: limit, depth: depth + 1) else {
            return nil
          }
          elements.append(element)
        } else if depth == 0 {
          break
        } else if GGUFHeaderParser.skip(&cursor, elementType, depth: depth + 1) != nil {
          return nil
        }
      }
      return .array(elementType, elements)
    default: return cursor.scalar(type)
    }
  }
}
