import QuantKernels

/// Makes a safetensors file whose data is produced as it is written.
///
/// Tensors lie in the file as the format's own library puts them: by type, the widest first, then
/// by name, after a header padded to eight bytes; so each begins on a multiple of its element's
/// size.
///
/// Format: <https://github.com/huggingface/safetensors#format>.
public struct SafetensorsWriter {
  /// Writes exactly a tensor's bytes, little-endian, to the sink.
  public typealias Data = (any ByteSink) throws(QuantError) -> Void

  private struct Tensor {
    let name: String
    let type: SafetensorsType
    let shape: [Int]
    let byteCount: Int
    let data: Data
  }

  /// Free text by key; `["format": "pt"]` is what Python's loaders expect.
  public var metadata: [String: String]
  private var tensors: [Tensor] = []
  private var names: Set<[UInt8]> = [Array("__metadata__".utf8)]

  /// A writer of a file without tensors yet.
  public init(metadata: [String: String] = [:]) { self.metadata = metadata }

  /// Adds a tensor whose bytes `data` writes when the file is made.
  ///
  /// - Parameters:
  ///   - shape: sizes, the slowest first; empty for a scalar.
  ///   - data: called once by each ``write(to:isCancelled:progress:)``; writes exactly the tensor's
  ///     bytes.
  ///   - name: the key in the header.
  ///   - type: of the elements.
  /// - Throws: `invalidArgument` for a name that is taken (`__metadata__` is) and for a shape that
  ///   is negative, too large, or ends within a byte.
  public mutating func addTensor(
    _ name: String, type: SafetensorsType, shape: [Int], data: @escaping Data
  ) throws(QuantError) {
    guard let byteCount = type.byteCount(shape: shape),
      shape.count <= SafetensorsFile.maximumDimensions
    else {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))", "has the shape \(shape)",
        remedy: "give up to \(SafetensorsFile.maximumDimensions) sizes that are not negative and "
          + "together fill whole bytes")
    }
    guard names.insert(Array(name.utf8)).inserted else {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))", "has a name that is taken",
        remedy: "use another name")
    }
    tensors.append(
      Tensor(name: name, type: type, shape: shape, byteCount: byteCount, data: data))
  }

  /// Adds a tensor from its bytes, little-endian.
  ///
  /// - Throws: as above, and `invalidArgument` when there are more or fewer bytes than the tensor
  ///   has.
  public mutating func addTensor(
    _ name: String, type: SafetensorsType, shape: [Int], bytes: [UInt8]
  ) throws(QuantError) {
    if let wanted = type.byteCount(shape: shape), wanted != bytes.count {
      throw QuantError(
        .invalidArgument, "tensor \(quoted(name))",
        "is given \(bytes.count) bytes, its shape and type have \(wanted)",
        remedy: "give \(type.rawValue) elements")
    }
    try addTensor(name, type: type, shape: shape) { sink throws(QuantError) in
      try sink.write(bytes)
    }
  }

  /// Makes or replaces the file at `path`; it appears whole or not at all.
  ///
  /// - Parameters:
  ///   - isCancelled: asked at least once a MiB.
  ///   - progress: called after each tensor with the bytes written and the bytes in all.
  ///   - path: where the file is to appear.
  /// - Throws: what a tensor's data throws; `invalidArgument` when it writes more or fewer bytes
  ///   than the tensor has, and when the header exceeds the format's 100 MB; `missingFile` when the
  ///   file cannot be written; `cancelled`.
  public func write(
    to path: String, isCancelled: @escaping () -> Bool = { false },
    progress: ((_ written: Int, _ total: Int) -> Void)? = nil
  ) throws(QuantError) {
    try AtomicFile.write(to: path, isCancelled: isCancelled) { file throws(QuantError) in
      try write(to: file, progress: progress)
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
    let order = fileOrder()
    let (header, dataBytes) = try header(order)
    var prefix: [UInt8] = []
    prefix.append(littleEndian: UInt64(header.count))
    try sink.write(prefix)
    try sink.write(header)
    let total = prefix.count + header.count + dataBytes
    for index in order {
      let tensor = tensors[index]
      let start = sink.position
      try tensor.data(sink)
      guard sink.position - start == tensor.byteCount else {
        throw QuantError(
          .invalidArgument, "tensor \(quoted(tensor.name))",
          "\(sink.position - start) bytes were written for it, it has \(tensor.byteCount)",
          remedy: "write exactly its bytes")
      }
      progress?(sink.position, total)
    }
  }

  /// By type, the last in the library's order first, then by name.
  private func fileOrder() -> [Int] {
    let rank = Dictionary(
      uniqueKeysWithValues: SafetensorsType.allCases.enumerated().map { ($1, $0) })
    return tensors.indices.sorted {
      let (a, b) = (tensors[$0], tensors[$1])
      if a.type != b.type { return rank[a.type, default: 0] > rank[b.type, default: 0] }
      return a.name.utf8.lexicographicallyPrecedes(b.name.utf8)
    }
  }

  private func header(_ order: [Int]) throws(QuantError) -> (bytes: [UInt8], dataBytes: Int) {
    var bytes: [UInt8] = [UInt8(ascii: "{")]
    if !metadata.isEmpty {
      bytes += Array("\"__metadata__\":{".utf8)
      for (index, key) in metadata.keys.sorted().enumerated() {
        if index > 0 { bytes.append(UInt8(ascii: ",")) }
        bytes += jsonString(key)
        bytes.append(UInt8(ascii: ":"))
        bytes += jsonString(metadata[key] ?? "")
      }
      bytes.append(UInt8(ascii: "}"))
    }
    var offset = 0
    for index in order {
      let tensor = tensors[index]
      let (end, overflow) = offset.addingReportingOverflow(tensor.byteCount)
      guard !overflow, end <= Int.max / 2 else {
        throw QuantError(
          .invalidArgument, "tensor \(quoted(tensor.name))", "makes the file larger than 2⁶² bytes",
          remedy: "check the shapes")
      }
      if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
      bytes += jsonString(tensor.name)
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      bytes += Array(
        ":{\"dtype\":\"\(tensor.type.rawValue)\",\"shape\":[\(shape)],".utf8)
      bytes += Array("\"data_offsets\":[\(offset),\(end)]}".utf8)
      offset = end
    }
    bytes.append(UInt8(ascii: "}"))
    while bytes.count % 8 != 0 { bytes.append(UInt8(ascii: " ")) }
    guard bytes.count <= SafetensorsFile.maximumHeaderBytes else {
      throw QuantError(
        .invalidArgument, "safetensors header", "takes \(bytes.count) bytes",
        remedy: "write fewer tensors to a file; the format allows 100 MB")
    }
    return (bytes, offset)
  }
}
