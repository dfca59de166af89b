import QuantKernels

/// The formats of model files that are read, told apart by their first bytes.
public enum ModelFileKind: Sendable {
  case gguf
  case safetensors

  /// Looks at a path: a folder or an index counts as safetensors.
  ///
  /// - Throws: ``QuantError`` `.missingFile` when nothing can be read there, `.invalidData` for a file that
  ///   is neither.
  public init(path: String) throws(QuantError) {
    if path.hasSuffix(".json") || path.hasSuffix("/") {
      self = .safetensors
      return
    }
    let bytes: UnsafeRawBufferPointer
    let file: MappedFile
    do throws(QuantError) {
      file = try MappedFile(path: path)
      bytes = file.bytes
    } catch {
      // A folder opens but does not map; if it holds a model, that reader says what else is wrong.
      if (try? SafetensorsModel(path: path)) != nil {
        self = .safetensors
        return
      }
      throw error
    }
    if bytes.count >= 4, bytes[0] == 0x47, bytes[1] == 0x47, bytes[2] == 0x55, bytes[3] == 0x46 {
      self = .gguf
      return
    }
    // A length of eight bytes and the opening brace of the header.
    if bytes.count >= 9, bytes[8] == UInt8(ascii: "{") {
      self = .safetensors
      return
    }
    throw QuantError(
      .invalidData, path, "is neither a GGUF nor a safetensors file",
      remedy: bytes.isEmpty ? "it is empty; fetch it again" : "check that the download is whole")
  }
}
