import QuantKernels

/// Makes a GGUF file, version 3: metadata first, then tensors whose data is produced as it is
/// written.
///
/// ```swift
/// var writer = GGUFWriter()
/// writer.copyMetadata(from: model.metadata)
/// try writer.set("general.file_type", .uint32(2))
/// try writer.addTensor("token_embd.weight", type: .q4_0, dimensions: [576, 49152]) { sink in … }
/// try writer.write(to: "model.gguf")
/// ```
///
/// Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
public struct GGUFWriter {
  /// Writes exactly a tensor's bytes to the sink.
  public typealias Data = (any ByteSink) throws(QuantError) -> Void

  /// ggml holds names in 64 bytes with a zero at the end; it refuses files with longer ones.
  static let maximumNameBytes = 63
  static let alignmentKey = "general.alignment"

  private struct Tensor {
    let name: String
    let typeNumber: UInt32
    let dimensions: [Int]
    let byteCount: Int
    let data: Data
  }

  /// What each tensor's offset is a multiple of; 32 unless asked otherwise.
  public let alignment: Int
  /// Type number and value as they will stand in the file, by key, in order.
  private var entries: [(key: String, encoded: [UInt8])] = []
  private var entryIndices: [[UInt8]: Int] = [:]
  private var tensors: [Tensor] = []
  private var names: Set<[UInt8]> = []

  /// A writer that aligns tensors to 32 bytes.
  public init() { alignment = 32 }

  /// - Parameter alignment: a power of two from 8 to 2²⁰; 32 is what every reader knows.
  /// - Throws: `QuantError` `.invalidArgument` for another alignment.
  public init(alignment: Int) throws(QuantError) {
    guard alignment >= 8, alignment <= 1 << 20, alignment & (alignment - 1) == 0 else {
      throw QuantError(
        .invalidArgument, "alignment", "is \(alignment)", remedy: "use a power of two, such as 32")
    }
    self.alignment = alignment
    if alignment != 32 {
      put(GGUFWriter.alignmentKey, GGUFWriter.encode(.uint32(UInt32(alignment))))
    }
  }

  // MARK: Metadata

  /// Sets a key, in place of a value that it had.
  ///
  /// - Throws: `invalidArgument` for a key above 65,535 bytes, an array whose elements are not all
  ///   of its type or nest deeper than four, and for `general.alignment`, which
  ///   ``init(alignment:)`` sets.
  public mutating func set(_ key: String, _ value: GGUFValue) throws(QuantError) {
    guard key.utf8.count <= 65_535 else {
      throw QuantError(
        .invalidArgument, "metadata key", "has \(key.utf8.count) bytes",
        remedy: "use at most 65,535")
    }
    guard key != GGUFWriter.alignmentKey else {
      throw QuantError(
        .invalidArgument, key, "is set by the writer itself",
        remedy: "give the alignment when making the writer")
    }
    try GGUFWriter.check(value, key, depth: 0)
    put(key, GGUFWriter.encode(value))
  }

  /// Copies metadata byte for byte, in its order, but for `general.alignment` and the keys left
  /// out.
  public mutating func copyMetadata(from metadata: GGUFMetadata, except: Set<String> = []) {
    for key in metadata.keys where key != GGUFWriter.alignmentKey && !except.contains(key) {
      if let encoded = metadata.encodedValue(key) { put(key, Array(encoded)) }
    }
  }

  private mutating func put(_ key: String, _ encoded: [UInt8]) {
    let bytes = Array(key.utf8)
    if let index = entryIndices[bytes] {
      entries[index].encoded = encoded
    } else {
      entryIndices[bytes] = entries.count
      entries.append((key, encoded))
    }
  }

  private static func check(
    _ value: GGUFValue, _ key: String, depth: Int
  ) throws(QuantError) {
    guard case .array(let type, let elements) = value else { return }
    guard depth < GGUFHeaderParser.maximumDepth else {
      throw QuantError(
        .invalidArgument, quoted(key), "holds arrays nested deeper than four", remedy: "flatten it")
    }
    for element in elements {
      guard element.type == type else {
        throw QuantError(
          .invalidArgument, quoted(key), "is an array of \(type) that holds a \(element.type)",
          remedy: "give elements of one type")
      }
      try check(element, key, depth: depth + 1)
    }
  }

  // MARK: Tensors

  /// Adds a tensor whose bytes `data` writes when the file is made.
  ///
  /// - Parameters:
  ///   - dimensions: one to four, the fastest first: `[columns, rows]`.
  ///   - data: called once by each ``write(to:isCancelled:progress:)``; writes exactly the tensor's
  ///     bytes.
  ///   - name: UTF-8, at most 63 bytes.
  ///   - type: of the elements.
  /// - Throws: `invalidArgument` for a name that is taken, empty or above 63 bytes, and for
  ///   dimensions that are not positive or whose columns are no multiple of the type's block.
  public mutating func addTensor(
    _ name: String, type: GGMLType, dimensions: [Int], data: @escaping Data
  ) throws(QuantError) {
    try add(name, type.rawValue, dimensions, data)
  }

  /// Adds a tensor from its bytes.
  ///
  /// - Throws: as above, and `invalidArgument` when there are more or fewer bytes than the tensor
  ///   has.
  public mutating func addTensor(
    _ name: String, type: GGMLType, dimensions: [Int], bytes: [UInt8]
  ) throws(QuantError) {
    let count = try GGUFWriter.byteCount(name, type.rawValue, dimensions)
    guard bytes.count == count else {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))",
        "is given \(bytes.count) bytes, its shape and type have \(count)",
        remedy: "give the bytes of \(type.name) blocks")
    }
    try add(name, type.rawValue, dimensions) { sink throws(QuantError) in try sink.write(bytes) }
  }

  /// Adds a tensor of another file byte for byte, of whatever type; keeps that file mapped.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for a name that is taken.
  public mutating func addTensor(
    copying tensor: GGUFTensor, from file: GGUFFile
  ) throws(QuantError) {
    try add(tensor.name, tensor.typeNumber, tensor.dimensions) { sink throws(QuantError) in
      try file.withBytes(of: tensor) { bytes throws(QuantError) in try sink.write(bytes) }
    }
  }

  private mutating func add(
    _ name: String, _ typeNumber: UInt32, _ dimensions: [Int], _ data: @escaping Data
  ) throws(QuantError) {
    let byteCount = try GGUFWriter.byteCount(name, typeNumber, dimensions)
    guard !name.isEmpty, name.utf8.count <= GGUFWriter.maximumNameBytes else {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))", "has a name of \(name.utf8.count) bytes",
        remedy: "use 1 to \(GGUFWriter.maximumNameBytes)")
    }
    guard names.insert(Array(name.utf8)).inserted else {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))", "is added twice", remedy: "use another name")
    }
    tensors.append(
      Tensor(
        name: name, typeNumber: typeNumber, dimensions: dimensions, byteCount: byteCount,
        data: data))
  }

  private static func byteCount(
    _ name: String, _ typeNumber: UInt32, _ dimensions: [Int]
  ) throws(QuantError) -> Int {
    func refused(_ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, "tensor \(quoted(name))", problem, remedy: remedy)
    }
    guard (1...GGUFHeaderParser.maximumDimensions).contains(dimensions.count) else {
      throw refused("has \(dimensions.count) dimensions", "give one to four")
    }
    guard let storage = GGUFStorage(number: typeNumber) else {
      throw refused("is of the unknown type \(typeNumber)", "convert it to a common type")
    }
    let sizes = dimensions + [Int](repeating: 1, count: 4 - dimensions.count)
    guard sizes.allSatisfy({ $0 > 0 }),
      let count = storage.byteCount((sizes[0], sizes[1], sizes[2], sizes[3]))
    else {
      throw refused(
        "has dimensions \(dimensions)",
        "give positive ones, the first a multiple of \(storage.blockElements)")
    }
    return count
  }

  // MARK: Writing

  /// Makes or replaces the file at `path`; it appears whole or not at all.
  ///
  /// - Parameters:
  ///   - isCancelled: asked at least once a MiB.
  ///   - progress: called after each tensor with the bytes written and the bytes in all.
  ///   - path: where the file is to appear.
  /// - Throws: what a tensor's data throws; `invalidArgument` when it writes more or fewer bytes
  ///   than the tensor has; `missingFile` when the file cannot be written; `cancelled`.
  public func write(
    to path: String, isCancelled: @escaping () -> Bool = { false },
    progress: ((_ written: Int, _ total: Int) -> Void)? = nil
  ) throws(QuantError) {
    try AtomicFile.write(to: path, isCancelled: isCancelled) { file throws(QuantError) in
      try write(to: file, progress: progress)
    }
  }

  /// Makes or replaces the file at `path` in the envelope of `NativeContainer`.
  func writeNative(
    to path: String, isCancelled: @escaping () -> Bool = { false },
    progress: ((_ written: Int, _ total: Int) -> Void)? = nil
  ) throws(QuantError) {
    let total = try header().total
    try AtomicFile.write(to: path, isCancelled: isCancelled) { file throws(QuantError) in
      try NativeContainer.write(imageBytes: total, to: file) { sink throws(QuantError) in
        try write(to: sink, progress: progress)
      }
    }
  }

  /// Adds a ternary matrix as `NativeContainer` holds it.
  mutating func addTernary(
    _ name: String, rows: Int, columns: Int,
    matrix: @escaping () throws(QuantError) -> TernaryMatrix
  ) throws(QuantError) {
    try set(
      NativeContainer.keyPrefix + name,
      .array(.uint64, [.uint64(UInt64(columns)), .uint64(UInt64(rows))]))
    let count = try TernaryFormat.fiveTrits.byteCount(rows: rows, columns: columns)
    try add(name, GGUFStorage.bytesNumber, [count]) { sink throws(QuantError) in
      try sink.write(try matrix().packed(as: .fiveTrits))
    }
  }

  /// The file's bytes, in memory.
  ///
  /// - Throws: as ``write(to:isCancelled:progress:)``, but for what only a file can have.
  public func serialized() throws(QuantError) -> [UInt8] {
    let sink = MemorySink()
    try write(to: sink, progress: nil)
    return sink.bytes
  }

  private func write(
    to sink: any ByteSink, progress: ((_ written: Int, _ total: Int) -> Void)?
  ) throws(QuantError) {
    let (header, total) = try header()
    try sink.write(header)
    try sink.pad(toMultipleOf: alignment)
    for tensor in tensors {
      let start = sink.position
      try tensor.data(sink)
      guard sink.position - start == tensor.byteCount else {
        throw QuantError(
          .invalidArgument, "tensor \(quoted(tensor.name))",
          "\(sink.position - start) bytes were written for it, it has \(tensor.byteCount)",
          remedy: "write exactly its bytes")
      }
      try sink.pad(toMultipleOf: alignment)
      progress?(sink.position, total)
    }
  }

  /// The header without its padding, and the size of the whole file.
  private func header() throws(QuantError) -> (bytes: [UInt8], total: Int) {
    var bytes: [UInt8] = Array("GGUF".utf8)
    bytes.append(littleEndian: UInt32(3))
    bytes.append(littleEndian: UInt64(tensors.count))
    bytes.append(littleEndian: UInt64(entries.count))
    for entry in entries {
      bytes.append(counted: Array(entry.key.utf8))
      bytes.append(contentsOf: entry.encoded)
    }
    var offset = 0
    for tensor in tensors {
      bytes.append(counted: Array(tensor.name.utf8))
      bytes.append(littleEndian: UInt32(tensor.dimensions.count))
      for size in tensor.dimensions { bytes.append(littleEndian: UInt64(size)) }
      bytes.append(littleEndian: tensor.typeNumber)
      bytes.append(littleEndian: UInt64(offset))
      // Sizes are a caller's, not a file's: they may add up to more than there is.
      let (end, overflow) = offset.addingReportingOverflow(tensor.byteCount)
      guard !overflow, end <= Int.max / 2 else {
        throw QuantError(
          .invalidArgument, "tensor \(quoted(tensor.name))", "makes the file larger than 2⁶² bytes",
          remedy: "check the dimensions")
      }
      offset = (end + alignment - 1) / alignment * alignment
    }
    return (bytes, (bytes.count + alignment - 1) / alignment * alignment + offset)
  }

  private static func encode(_ value: GGUFValue) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: value.type.rawValue)
    encode(value, &bytes)
    return bytes
  }

  private static func encode(_ value: GGUFValue, _ bytes: inout [UInt8]) {
    switch value {
    case .uint8(let value): bytes.append(value)
    case .int8(let value): bytes.append(UInt8(bitPattern: value))
    case .uint16(let value): bytes.append(littleEndian: value)
    case .int16(let value): bytes.append(littleEndian: value)
    case .uint32(let value): bytes.append(littleEndian: value)
    case .int32(let value): bytes.append(littleEndian: value)
    case .float32(let value): bytes.append(littleEndian: value.bitPattern)
    case .bool(let value): bytes.append(value ? 1 : 0)
    case .string(let value): bytes.append(counted: value)
    case .array(let type, let elements):
      bytes.append(littleEndian: type.rawValue)
      bytes.append(littleEndian: UInt64(elements.count))
      for element in elements { encode(element, &bytes) }
    case .uint64(let value): bytes.append(littleEndian: value)
    case .int64(let value): bytes.append(littleEndian: value)
    case .float64(let value): bytes.append(littleEndian: value.bitPattern)
    }
  }
}

extension [UInt8] {
  mutating func append(littleEndian value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// A 64-bit length and the bytes.
  mutating func append(counted bytes: [UInt8]) {
    append(littleEndian: UInt64(bytes.count))
    append(contentsOf: bytes)
  }
}
