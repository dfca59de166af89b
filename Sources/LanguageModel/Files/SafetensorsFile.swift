import QuantKernels

/// A safetensors file, mapped into memory and checked.
///
/// The whole header is checked on opening: its length, its JSON, that names are unique, that each
/// tensor's bytes are those of its type and shape, and that the tensors tile the data without a gap
/// or an overlap. Data is only located. Opening costs O(n log n) time in the number of tensors.
///
/// Format: <https://github.com/huggingface/safetensors#format>.
public final class SafetensorsFile: Sendable {
  /// The format's own limit on the header, in bytes.
  static let maximumHeaderBytes = 100_000_000
  /// Ours, since no array library goes beyond 64.
  static let maximumDimensions = 64
  /// Ours: a header may not make us hold more small strings than that.
  static let maximumMetadataEntries = 65_536

  /// Tensors in the order of the header.
  public let tensors: [SafetensorsTensor]
  /// Free text by key (`__metadata__`); often `format` alone.
  public let metadata: [String: String]
  /// Where the tensor data begins, counted from the start of the file.
  public let dataOffset: Int

  let file: MappedFile
  private let index: NameIndex

  /// The path that was opened.
  public var path: String { file.path }

  /// Opens and checks the file at `path`.
  ///
  /// - Throws: `missingFile` and `outOfMemory` as
  ///   `MappedFile`; `unsupported` for an element type that is not known; `invalidData` for
  ///   anything else that is wrong.
  public convenience init(path: String) throws(QuantError) {
    try self.init(file: MappedFile(path: path))
  }

  /// Checks a file's image in memory, copied; `name` stands for the path in errors.
  ///
  /// - Throws: as ``init(path:)``, but for a missing file.
  public convenience init(bytes: [UInt8], name: String) throws(QuantError) {
    try self.init(file: bytes.withUnsafeBytes { MappedFile(copying: $0, name: name) })
  }

  /// Checks what is mapped already.
  package init(file: MappedFile) throws(QuantError) {
    let header = try SafetensorsHeader(file)
    let tensors = header.tensors
    index = NameIndex(tensors.count) { tensors[$0].name }
    if let name = index.duplicate(name: { tensors[$0].name }) {
      throw header.damaged("tensor \(quoted(name)) appears twice")
    }
    self.file = file
    self.tensors = tensors
    metadata = header.metadata
    dataOffset = header.dataOffset
  }

  /// The tensor of that name, or nil. O(log tensors).
  public func tensor(named name: String) -> SafetensorsTensor? {
    index.find(name) { tensors[$0].name }.map { tensors[$0] }
  }

  /// The bytes of one of this file's tensors, little-endian; valid while this object lives.
  ///
  /// They may begin at any address: the format promises no alignment. A tensor of another file
  /// gives what of its extent lies in this one.
  public func bytes(of tensor: SafetensorsTensor) -> UnsafeRawBufferPointer {
    let bytes = file.bytes
    let start = min(tensor.offset, bytes.count)
    let count = min(tensor.byteCount, bytes.count - start)
    return UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)])
  }

  /// Calls `body` with the bytes of one of this file's tensors, and keeps them mapped until it
  /// returns.
  ///
  /// ``bytes(of:)`` gives a pointer that does not keep this object alive, which may go right after
  /// its last use in the source.
  ///
  /// - Throws: what `body` throws.
  public func withBytes<R, E: Error>(
    of tensor: SafetensorsTensor, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try withExtendedLifetime(self) { () throws(E) -> R in try body(bytes(of: tensor)) }
  }
}

/// A safetensors header, parsed and checked.
private struct SafetensorsHeader {
  private let path: String
  private let fileBytes: Int
  private var json: JSONCursor
  let dataOffset: Int
  private(set) var tensors: [SafetensorsTensor] = []
  private(set) var metadata: [String: String] = [:]

  init(_ file: MappedFile) throws(QuantError) {
    path = file.path
    fileBytes = file.bytes.count
    var cursor = ByteCursor(file.bytes)
    func refused(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, file.path, problem, remedy: "name a .safetensors file, or fetch it again")
    }
    guard let length = cursor.uint64() else {
      throw refused("has \(file.bytes.count) bytes, fewer than a safetensors header's length takes")
    }
    guard length <= UInt64(cursor.remaining) else {
      throw refused(
        "declares a header of \(length) bytes, \(cursor.remaining) are left in the file")
    }
    guard length <= UInt64(SafetensorsFile.maximumHeaderBytes),
      let header = cursor.slice(Int(length))
    else {
      throw refused(
        "declares a header of \(length) bytes, the format allows "
          + "\(SafetensorsFile.maximumHeaderBytes)"
      )
    }
    guard header.first == UInt8(ascii: "{") else {
      throw refused("is not a safetensors file (its header does not begin with '{')")
    }
    dataOffset = cursor.offset
    json = JSONCursor(header, file: file.path, base: 8)
    try parse()
    try checkTiling()
  }

  func damaged(_ problem: String) -> QuantError {
    QuantError(
      .invalidData, path, problem, remedy: "fetch the file again or convert the model again")
  }

  private mutating func parse() throws(QuantError) {
    var seenMetadata = false
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      if key == "__metadata__" {
        guard !seenMetadata else { throw damaged("'__metadata__' appears twice") }
        seenMetadata = true
        try parseMetadata()
      } else {
        try parseTensor(key)
      }
    }
    try json.expectEnd()
  }

  private mutating func parseMetadata() throws(QuantError) {
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      guard metadata.count < SafetensorsFile.maximumMetadataEntries else {
        throw damaged("holds more than \(SafetensorsFile.maximumMetadataEntries) metadata entries")
      }
      guard metadata.updateValue(try json.string(), forKey: key) == nil else {
        throw damaged("metadata key \(quoted(key)) appears twice")
      }
    }
  }

  private mutating func parseTensor(_ name: String) throws(QuantError) {
    var type: SafetensorsType?
    var shape: [Int]?
    var extent: (begin: Int, end: Int)?
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      switch key {
      case "dtype" where type == nil:
        let text = try json.string()
        guard let known = SafetensorsType(rawValue: text) else {
          throw QuantError(
            .unsupported, path, "tensor \(quoted(name)) is of the unknown type \(quoted(text))",
            remedy: "convert it to a common type, such as F16")
        }
        type = known
      case "shape" where shape == nil: shape = try parseShape(name)
      case "data_offsets" where extent == nil:
        try json.expect("[")
        let begin = try json.size()
        try json.expect(",")
        extent = (begin, try json.size())
        try json.expect("]")
      case "dtype", "shape", "data_offsets":
        throw damaged("tensor \(quoted(name)): '\(key)' appears twice")
      default: try json.skipValue()
      }
    }
    guard let type, let shape, let extent else {
      throw damaged("tensor \(quoted(name)) lacks one of 'dtype', 'shape', 'data_offsets'")
    }
    guard extent.begin <= extent.end, extent.end <= fileBytes - dataOffset else {
      throw damaged(
        "tensor \(quoted(name)): bytes \(extent.begin) to \(extent.end) do not lie in the "
          + "\(fileBytes - dataOffset) bytes of data")
    }
    guard let byteCount = type.byteCount(shape: shape) else {
      throw damaged("tensor \(quoted(name)): the size of shape \(shape) overflows")
    }
    guard byteCount == extent.end - extent.begin else {
      throw damaged(
        "tensor \(quoted(name)): \(type.rawValue) of shape \(shape) takes \(byteCount) bytes, the "
          + "header gives it \(extent.end - extent.begin)")
    }
    tensors.append(
      SafetensorsTensor(
        name: name, type: type, shape: shape, offset: dataOffset + extent.begin,
        byteCount: byteCount))
  }

  private mutating func parseShape(_ name: String) throws(QuantError) -> [Int] {
    var shape: [Int] = []
    try json.expect("[")
    var first = true
    while try json.element(&first) {
      guard shape.count < SafetensorsFile.maximumDimensions else {
        throw damaged(
          "tensor \(quoted(name)) has more than \(SafetensorsFile.maximumDimensions) dimensions")
      }
      shape.append(try json.size())
    }
    return shape
  }

  /// Every byte of the data belongs to exactly one tensor.
  private func checkTiling() throws(QuantError) {
    var end = dataOffset
    let order = tensors.indices.sorted {
      (tensors[$0].offset, tensors[$0].byteCount) < (tensors[$1].offset, tensors[$1].byteCount)
    }
    for index in order {
      let tensor = tensors[index]
      guard tensor.offset == end else {
        let kind = tensor.offset < end ? "overlaps the tensor before it" : "leaves a gap before it"
        throw damaged(
          "tensor \(quoted(tensor.name)), at byte \(tensor.offset - dataOffset), \(kind)")
      }
      end += tensor.byteCount
    }
    guard end == fileBytes else {
      throw damaged("\(fileBytes - end) bytes at the end belong to no tensor")
    }
  }
}
