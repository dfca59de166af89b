import QuantKernels

/// A GGUF file, version 2 or 3, mapped into memory and checked.
///
/// The whole header is checked on opening: every length against the file, keys and tensor names for
/// UTF-8 and repetition, tensors for their types, shapes, alignment and overlap. Tensor data is
/// only located. Opening costs O(header) time and, beside the mapping, memory below four times the
/// header.
///
/// A native model of this package (`NativeContainer`) is read as the image in it, after its checksum
/// was compared, which takes the time of reading the file once.
///
/// A Hugging Face directory (`HuggingFaceDirectory`) opens as such a file too: its configuration and
/// tokenizer become metadata, and its tensors, under GGUF's names, stay in the mapped safetensors
/// files.
///
/// Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
public final class GGUFFile: Sendable {
  /// The version in the header, 2 or 3.
  public let version: Int
  /// The key-value pairs of the header.
  public let metadata: GGUFMetadata
  /// Tensors in the file's order.
  public let tensors: [GGUFTensor]
  /// What tensor offsets are a multiple of, in bytes.
  public let alignment: Int
  /// Where the tensor data begins, counted from the start of the file.
  public let dataOffset: Int

  private let file: MappedFile
  private let index: NameIndex
  /// Mappings of tensors that lie elsewhere, by ``GGUFTensor/source`` less one.
  private let others: [MappedFile]
  /// Where the model comes from when it is no GGUF file.
  let directory: HuggingFaceDirectory?

  /// The path that was opened.
  public var path: String { file.path }

  /// Whether this is a Hugging Face directory.
  public var isDirectory: Bool { directory != nil }

  /// Opens and checks the file, or the Hugging Face directory, at `path`.
  ///
  /// - Throws: `missingFile` and `outOfMemory` as `MappedFile`; `unsupported` for version 1, a
  ///   big-endian file, or a tensor type that is not known; `invalidData` for anything else that is
  ///   wrong; for a directory, as `HuggingFaceDirectory`.
  public convenience init(path: String) throws(QuantError) {
    if HuggingFaceDirectory.isDirectory(path) {
      try self.init(directory: HuggingFaceDirectory(path: path))
    } else {
      try self.init(file: MappedFile(path: path))
    }
  }

  /// Checks a file's image in memory, copied; `name` stands for the path in errors.
  ///
  /// - Throws: as ``init(path:)``, but for a missing file.
  public convenience init(bytes: [UInt8], name: String) throws(QuantError) {
    try self.init(file: bytes.withUnsafeBytes { MappedFile(copying: $0, name: name) })
  }

  /// Checks what is mapped already.
  package init(file whole: MappedFile) throws(QuantError) {
    let isNative = NativeContainer.isContainer(whole.bytes)
    let file = isNative ? try NativeContainer.image(of: whole) : whole
    var parser = try GGUFHeaderParser(file: file)
    let offsets = try parser.metadata()
    metadata = try GGUFMetadata(file: file, offsets: offsets)
    let alignment = try parser.alignment(metadata)
    let parsed = try parser.tensors(alignment: alignment)
    let tensors =
      isNative
      ? try Self.ternary(parsed.tensors, metadata, path: file.path) : parsed.tensors
    index = NameIndex(tensors.count) { tensors[$0].name }
    if let name = index.duplicate(name: { tensors[$0].name }) {
      throw parser.damaged("tensor name \(quoted(name)) appears twice")
    }
    self.file = file
    self.tensors = tensors
    self.alignment = alignment
    others = []
    directory = nil
    version = parser.version
    dataOffset = parsed.dataOffset
  }

  /// A directory's metadata as a header, which is checked as every other, and its tensors.
  init(directory: HuggingFaceDirectory) throws(QuantError) {
    let file = directory.header
    var parser = try GGUFHeaderParser(file: file)
    metadata = try GGUFMetadata(file: file, offsets: try parser.metadata())
    alignment = 32
    dataOffset = file.bytes.count
    version = parser.version
    let tensors = directory.tensors
    index = NameIndex(tensors.count) { tensors[$0].name }
    if let name = index.duplicate(name: { tensors[$0].name }) {
      throw parser.damaged("tensor name \(quoted(name)) appears twice")
    }
    self.file = file
    self.tensors = tensors
    others = directory.mappings
    self.directory = directory
  }

  /// Tensors of bytes that the metadata declare as ternary matrices, as such.
  private static func ternary(
    _ tensors: [GGUFTensor], _ metadata: GGUFMetadata, path: String
  ) throws(QuantError) -> [GGUFTensor] {
    var result: [GGUFTensor] = []
    result.reserveCapacity(tensors.count)
    for tensor in tensors {
      let key = NativeContainer.keyPrefix + tensor.name
      guard tensor.typeNumber == GGUFStorage.bytesNumber, metadata.encodedValue(key) != nil else {
        result.append(tensor)
        continue
      }
      let shape = metadata.integers(key) ?? []
      guard shape.count == 2, shape.allSatisfy({ $0 > 0 }),
        let count = try? TernaryFormat.fiveTrits.byteCount(rows: shape[1], columns: shape[0]),
        count == tensor.byteCount
      else {
        throw QuantError(
          .invalidData, "\(path): tensor \(quoted(tensor.name))",
          "\(tensor.byteCount) bytes are no ternary matrix of shape \(shape)",
          remedy: "convert the model again")
      }
      result.append(GGUFTensor(tensor, ternaryRows: shape[1], columns: shape[0]))
    }
    return result
  }

  /// The tensor of that name, or nil. O(log tensors).
  public func tensor(named name: String) -> GGUFTensor? {
    index.find(name) { tensors[$0].name }.map { tensors[$0] }
  }

  /// The bytes of one of this file's tensors; valid while this object lives.
  ///
  /// They begin on a multiple of ``alignment`` in the file, and so in memory up to the size of a
  /// page; those of a directory begin anywhere. A tensor of another file gives what of its extent
  /// lies in this one.
  public func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer {
    let place = Int(tensor.source) - 1
    let bytes = others.indices.contains(place) ? others[place].bytes : file.bytes
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
    of tensor: GGUFTensor, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try withExtendedLifetime(self) { () throws(E) -> R in try body(bytes(of: tensor)) }
  }
}
