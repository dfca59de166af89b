import QuantKernels

/// Walks a GGUF header once, front to back, and checks it.
struct GGUFHeaderParser {
  /// Arrays may hold arrays; no known writer goes deeper than two.
  static let maximumDepth = 4
  /// ggml's own limit.
  static let maximumDimensions = 4

  let file: MappedFile
  let version: Int
  private let tensorCount: Int
  private let metadataCount: Int
  private var cursor: ByteCursor

  /// Reads the fixed part: magic, version, counts.
  init(file: MappedFile) throws(QuantError) {
    self.file = file
    func refused(_ code: QuantError.Code, _ problem: String, _ remedy: String) -> QuantError {
      QuantError(code, file.path, problem, remedy: remedy)
    }
    cursor = ByteCursor(file.bytes)
    guard let magic = cursor.uint32(), magic == 0x4655_4747 else {
      throw refused(
        .invalidData, "is not a GGUF file (it does not begin with 'GGUF')", "name a .gguf file")
    }
    guard let version = cursor.uint32() else {
      throw refused(
        .invalidData, "ends within the header, after \(file.bytes.count) bytes",
        "fetch the file again")
    }
    // Versions are small, so a version whose low half is zero is one written in the other byte
    // order.
    if version & 0xffff == 0, version != 0 {
      throw refused(
        .unsupported, "is a big-endian GGUF file",
        "convert it to little-endian (gguf-convert-endian)")
    }
    guard version == 2 || version == 3 else {
      throw refused(
        .unsupported, "has GGUF version \(version), versions 2 and 3 are read",
        "convert the model again with current tools")
    }
    self.version = Int(version)
    guard let tensors = cursor.uint64(), let keys = cursor.uint64() else {
      throw refused(
        .invalidData, "ends within the header, after \(file.bytes.count) bytes",
        "fetch the file again")
    }
    // A key takes at least its length, a type and one byte; a tensor its name's length, a number of
    // dimensions, a type and an offset. So counts beyond the file are refused before anything is
    // reserved.
    guard keys <= UInt64(cursor.remaining / 13), tensors <= UInt64(cursor.remaining / 24) else {
      throw refused(
        .invalidData,
        "declares \(tensors) tensors and \(keys) metadata keys, more than its \(file.bytes.count) "
          + "bytes can hold", "fetch the file again")
    }
    // Indices are kept in 32 bits; 2³² keys would need a header of 56 GB.
    guard keys < UInt64(UInt32.max), tensors < UInt64(UInt32.max) else {
      throw refused(
        .unsupported, "declares \(tensors) tensors and \(keys) metadata keys", "split the file")
    }
    tensorCount = Int(tensors)
    metadataCount = Int(keys)
  }

  func damaged(_ problem: String) -> QuantError {
    QuantError(
      .invalidData, file.path, problem, remedy: "fetch the file again or convert the model again")
  }

  /// Walks the metadata; gives where each entry begins.
  mutating func metadata() throws(QuantError) -> [Int] {
    var offsets: [Int] = []
    offsets.reserveCapacity(metadataCount)
    for index in 0..<metadataCount {
      let start = cursor.offset
      guard let key = cursor.string() else {
        throw damaged("ends within metadata key \(index) of \(metadataCount), at byte \(start)")
      }
      guard isValidUTF8(key) else {
        throw damaged(
          "metadata key \(index) of \(metadataCount), at byte \(start), is no valid UTF-8")
      }
      guard let number = cursor.uint32() else {
        throw damaged("ends within metadata key \(index) of \(metadataCount), at byte \(start)")
      }
      let problem: String?
      if let type = GGUFValueType(rawValue: number) {
        problem = GGUFHeaderParser.skip(&cursor, type, depth: 0)
      } else {
        problem = "has the unknown type \(number)"
      }
      if let problem {
        throw damaged(
          "metadata key \(quoted(String(decoding: key, as: UTF8.self))), at byte \(start), "
            + problem
        )
      }
      offsets.append(start)
    }
    return offsets
  }

  /// Moves past a value and checks it; gives what is wrong with it, or nil.
  static func skip(_ cursor: inout ByteCursor, _ type: GGUFValueType, depth: Int) -> String? {
    switch type {
    case .string:
      guard cursor.string() != nil else {
        return "holds a string that runs past the end of the file"
      }
    case .bool:
      guard let byte = cursor.uint8() else { return "ends within its value" }
      guard byte <= 1 else { return "holds \(byte) for a bool, where 0 or 1 is wanted" }
    case .array:
      guard depth < maximumDepth else { return "holds arrays nested deeper than \(maximumDepth)" }
      guard let number = cursor.uint32() else { return "ends within an array's header" }
      guard let elementType = GGUFValueType(rawValue: number) else {
        return "holds an array of the unknown type \(number)"
      }
      guard let count = cursor.count(ofAtLeast: elementType.minimumBytes) else {
        return "holds an array that runs past the end of the file"
      }
      return skipElements(&cursor, elementType, count, depth: depth + 1)
    default:
      guard cursor.slice(type.fixedBytes ?? 0) != nil else { return "ends within its value" }
    }
    return nil
  }

  private static func skipElements(
    _ cursor: inout ByteCursor, _ type: GGUFValueType, _ count: Int, depth: Int
  ) -> String? {
    // Scalars are skipped at once; `count` was checked against the bytes left, so this cannot
    // overflow.
    if type != .bool, let size = type.fixedBytes {
      return cursor.slice(count * size) == nil ? "holds an array past the end of the file" : nil
    }
    for _ in 0..<count {
      if let problem = skip(&cursor, type, depth: depth) { return problem }
    }
    return nil
  }

  /// `general.alignment`, 32 where absent.
  func alignment(_ metadata: GGUFMetadata) throws(QuantError) -> Int {
    let key = "general.alignment"
    guard let type = metadata.type(of: key) else { return 32 }
    guard type == .uint32, let alignment = metadata.integer(key) else {
      throw damaged("'\(key)' is of type \(type), where uint32 is wanted")
    }
    guard alignment >= 8, alignment <= 1 << 30, alignment & (alignment - 1) == 0 else {
      throw damaged("'\(key)' is \(alignment), where a power of two from 8 to 2³⁰ is wanted")
    }
    return alignment
  }

  /// Walks the tensor descriptions and checks every extent against the file and the others.
  mutating func tensors(
    alignment: Int
  ) throws(QuantError) -> (tensors: [GGUFTensor], dataOffset: Int) {
    // Descriptions come before the data, whose beginning depends on where they end; so first the
    // end.
    let first = cursor
    for index in 0..<tensorCount {
      guard cursor.string() != nil, let rank = cursor.uint32(), rank <= 4,
        cursor.slice(Int(rank) * 8 + 12) != nil
      else {
        throw damaged(
          "tensor \(index) of \(tensorCount) has no whole description (a name, at most 4 "
            + "dimensions, a type, an offset)")
      }
    }
    // Header offsets are below the file's size, so this sum is far from overflow.
    let dataOffset = (cursor.offset + alignment - 1) / alignment * alignment
    cursor = first
    var tensors: [GGUFTensor] = []
    tensors.reserveCapacity(tensorCount)
    var inOrder = true
    var end = 0
    for _ in 0..<tensorCount {
      let tensor = try tensor(dataOffset: dataOffset, alignment: alignment)
      inOrder = inOrder && tensor.offset >= end
      end = tensor.offset + tensor.byteCount
      tensors.append(tensor)
    }
    if !inOrder { try checkOverlap(tensors) }
    return (tensors, dataOffset)
  }

  private mutating func tensor(
    dataOffset: Int, alignment: Int
  ) throws(QuantError) -> GGUFTensor {
    guard let nameBytes = cursor.string(), let rank = cursor.uint32(), rank <= 4 else {
      throw damaged("ends within a tensor's description")
    }
    guard isValidUTF8(nameBytes) else {
      throw damaged("a tensor's name, at byte \(cursor.offset), is no valid UTF-8")
    }
    let name = String(decoding: nameBytes, as: UTF8.self)
    var sizes = (1, 1, 1, 1)
    for dimension in 0..<Int(rank) {
      guard let size = cursor.uint64().flatMap({ Int(exactly: $0) }), size > 0 else {
        throw damaged("tensor \(quoted(name)): dimension \(dimension) is zero or above 2⁶³")
      }
      switch dimension {
      case 0: sizes.0 = size
      case 1: sizes.1 = size
      case 2: sizes.2 = size
      default: sizes.3 = size
      }
    }
    guard let number = cursor.uint32(), let relative = cursor.uint64() else {
      throw damaged("tensor \(quoted(name)): its description ends early")
    }
    guard let storage = GGUFStorage(number: number) else {
      throw QuantError(
        .unsupported, file.path, "tensor \(quoted(name)) is of the unknown type \(number)",
        remedy: "convert the model to a common type, such as Q4_0 or Q8_0")
    }
    guard let byteCount = storage.byteCount(sizes) else {
      throw damaged(
        "tensor \(quoted(name)): rows of \(sizes.0) are no multiple of \(storage.name)'s block of "
          + "\(storage.blockElements), or its size overflows")
    }
    let available = max(0, file.bytes.count - dataOffset)
    guard relative % UInt64(alignment) == 0 else {
      throw damaged(
        "tensor \(quoted(name)): offset \(relative) is no multiple of the alignment \(alignment)")
    }
    guard byteCount <= available, relative <= UInt64(available - byteCount) else {
      throw damaged(
        "tensor \(quoted(name)): its \(byteCount) bytes from offset \(relative) run past the "
          + "\(available) bytes of tensor data")
    }
    // No type holds more than 8 elements a byte (Q1_0: 128 in 18), and the bytes are those of a
    // file that exists, so the product of the dimensions fits `Int`.
    return GGUFTensor(
      name: name, typeNumber: number, sizes: sizes, rank: Int(rank),
      offset: dataOffset + Int(relative), byteCount: byteCount)
  }

  private func checkOverlap(_ tensors: [GGUFTensor]) throws(QuantError) {
    let order = (0..<UInt32(tensors.count)).sorted {
      tensors[Int($0)].offset < tensors[Int($1)].offset
    }
    for (a, b) in zip(order, order.dropFirst()) {
      let (first, second) = (tensors[Int(a)], tensors[Int(b)])
      if first.offset + first.byteCount > second.offset {
        throw damaged("tensors \(quoted(first.name)) and \(quoted(second.name)) overlap")
      }
    }
  }

  /// Whether the bytes are well-formed UTF-8.
  private func isValidUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    // Names are ASCII in practice, which needs no decoder.
    if bytes.allSatisfy({ $0 < 0x80 }) { return true }
    return String(validating: bytes, as: UTF8.self) != nil
  }
}
