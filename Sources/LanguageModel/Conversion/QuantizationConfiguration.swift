import QuantKernels

/// What stands about int4 layers beside a checkpoint and not in its tensors.
struct QuantizationConfiguration {
  /// `gptq`, or `gptq_v2` where zero points are stored as they are; nil where nothing says so.
  private(set) var checkpointFormat: String?

  /// Looks into the files' own metadata, then into `quantize_config.json` and `config.json` of
  /// their folder, where the public tools write it.
  ///
  /// - Throws: `QuantError` `.invalidData` for a configuration that is no JSON.
  init(of model: SafetensorsModel) throws(QuantError) {
    checkpointFormat = model.files.lazy.compactMap { $0.metadata["checkpoint_format"] }.first
    guard checkpointFormat == nil, let path = model.files.first?.path else { return }
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    for name in ["quantize_config.json", "config.json"] where checkpointFormat == nil {
      guard let file = try? MappedFile(path: folder + name) else { continue }
      defer { withExtendedLifetime(file) {} }
      var json = JSONCursor(file.bytes, file: file.path)
      try read(&json, isNested: false)
      try json.expectEnd()
    }
  }

  private mutating func read(_ json: inout JSONCursor, isNested: Bool) throws(QuantError) {
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      switch (key, json.peek()) {
      case ("checkpoint_format", UInt8(ascii: "\"")): checkpointFormat = try json.string()
      case ("quantization_config", UInt8(ascii: "{")) where !isNested:
        try read(&json, isNested: true)
      default: try json.skipValue()
      }
    }
  }
}
