import QuantKernels

/// The formats of model files that are read, told apart by their first bytes.
public enum ModelFileKind: Sendable {
  /// GGUF.
  case gguf
  /// Safetensors.
  case safetensors
  /// A Hugging Face directory: a configuration and a tokenizer beside safetensors.
  case directory

  /// Looks at a path: a folder without a configuration and a tokenizer, or an index, counts as
  /// safetensors.
  ///
  /// - Throws: `QuantError` `.missingFile` when nothing can be read there, `.invalidData` for a
  ///   file that is neither.
  public init(path: String) throws(QuantError) {
    if FileNames.isFolder(path), FileNames.exists(path + "/config.json"),
      FileNames.exists(path + "/tokenizer.json") || FileNames.exists(path + "/tokenizer.model")
    {
      self = .directory
      return
    }
    if path.hasSuffix(".json") || path.hasSuffix("/") {
      self = .safetensors
      return
    }
    let start: [UInt8]
    do throws(QuantError) {
      let file = try MappedFile(path: path)
      start = withExtendedLifetime(file) { Array(file.bytes.prefix(9)) }
    } catch {
      // A folder opens but does not map; if it holds a model, that reader says what else is wrong.
      if (try? SafetensorsModel(path: path)) != nil {
        self = .safetensors
        return
      }
      throw error
    }
    if start.starts(with: Array("GGUF".utf8)) || start.starts(with: NativeContainer.magic) {
      self = .gguf
      return
    }
    // A length of eight bytes and the opening brace of the header.
    if start.count == 9, start[8] == UInt8(ascii: "{") {
      self = .safetensors
      return
    }
    throw QuantError(
      .invalidData, path, "is neither a GGUF nor a safetensors file",
      remedy: start.isEmpty ? "it is empty; fetch it again" : "check that the download is whole")
  }
}
