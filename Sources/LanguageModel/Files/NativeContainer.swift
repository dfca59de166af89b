import QuantKernels

/// The package's own file of a ternary model: a GGUF image in an envelope with a version and a
/// checksum, its ternary matrices in five trits a byte. All numbers are little-endian.
///
///     offset  bytes
///     0       8      "QKNATIVE"
///     8       4      version, 1
///     12      4      0
///     16      8      n, bytes of the image
///     24      40     0
///     64      n      a GGUF image, version 3
///     64 + n  8      XXH64, seed 0, of all bytes before
///
/// The image is one that any GGUF reader can list: a ternary matrix `blk.0.attn_q.weight` of
/// `[columns, rows]` is an I8 tensor of its bytes, and the metadata hold
/// `quantkernels.ternary.blk.0.attn_q.weight = [columns, rows]`. The bytes are ``TernaryFormat``'s
/// `fiveTrits`: every row padded to whole blocks of 160 columns in 32 bytes, then the float32 scale.
/// The layout is the same on every processor; kernels repack it when it is loaded.
enum NativeContainer {
  static let magic = Array("QKNATIVE".utf8)
  static let version: UInt32 = 1
  static let headerBytes = 64
  static let keyPrefix = "quantkernels.ternary."

  static func isContainer(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.starts(with: magic)
  }

  /// The image in an opened container.
  ///
  /// - Throws: `QuantError` `.unsupported` for another version, `.invalidData` for another size or
  ///   checksum.
  /// - Complexity: O(file), at the speed of memory.
  static func image(of file: MappedFile) throws(QuantError) -> MappedFile {
    func damaged(_ problem: String) -> QuantError {
      QuantError(.invalidData, file.path, problem, remedy: "convert the model again")
    }
    let bytes = file.bytes
    guard bytes.count >= headerBytes + 8 else {
      throw damaged("\(bytes.count) bytes are no native model")
    }
    let version = UInt32(
      littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    guard version == Self.version else {
      throw QuantError(
        .unsupported, file.path, "native model of version \(version), this build reads 1",
        remedy: "convert the model again, or use a newer version of the package")
    }
    let count = UInt64(
      littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
    guard count == UInt64(bytes.count - headerBytes - 8) else {
      throw damaged("\(bytes.count) bytes where the header states \(count) and \(headerBytes + 8)")
    }
    var hash = XXH64()
    hash.update(UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - 8)]))
    let stated = UInt64(
      littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self))
    guard hash.finish() == stated else {
      throw damaged("its checksum is not that of its bytes")
    }
    return MappedFile(partOf: file, headerBytes..<bytes.count - 8)
  }

  /// Writes an image of `count` bytes with its envelope.
  static func write(
    imageBytes count: Int, to sink: any ByteSink,
    _ body: (any ByteSink) throws(QuantError) -> Void
  ) throws(QuantError) {
    let hashing = HashingSink(sink)
    var header = magic
    header.append(littleEndian: version)
    header.append(littleEndian: UInt32(0))
    header.append(littleEndian: UInt64(count))
    header += [UInt8](repeating: 0, count: headerBytes - header.count)
    try hashing.write(header)
    hashing.origin = headerBytes
    try body(hashing)
    var checksum: [UInt8] = []
    checksum.append(littleEndian: hashing.hash.finish())
    try sink.write(checksum)
  }

  private final class HashingSink: ByteSink {
    private let sink: any ByteSink
    private var written = 0
    /// Where the image begins, from which its own positions count.
    var origin = 0
    var hash = XXH64()

    init(_ sink: any ByteSink) { self.sink = sink }

    var position: Int { written - origin }

    func write(_ bytes: UnsafeRawBufferPointer) throws(QuantError) {
      hash.update(bytes)
      written += bytes.count
      try sink.write(bytes)
    }
  }
}
