import QuantKernels

/// A model as Hugging Face publishes it: a folder with `config.json`, a tokenizer, and safetensors in
/// one file or several.
///
/// ``GGUFFile`` opens it: everything that works on a GGUF file works on a directory. Configuration and
/// tokenizer become the keys of a GGUF header in memory, tensors get GGUF's names, and floats stay
/// where they are in the mapped files. Nothing is reordered: rows of Q and K are in this library's
/// order, and `quantkernels.rotary_style` says that halves of a head are rotated.
///
/// - Linear layers of F32, F16 or BF16; of AWQ, GPTQ (act-order too), QUICK or Marlin at 4 bits; of
///   BitNet, packed in both conventions of `weight_scale`, or in floats that are rounded at every pass
///   (`online`; here once, and to float32 scales).
/// - Gemma's norms, which are stored less 1, and Llama 3's frequency divisors are made in memory.
///
/// Errors are typed: `.missingFile` for a file that is not there, `.invalidData` for what is damaged
/// or does not fit together, `.unsupported`, with the key or the tensor, for what would change
/// results.
final class HuggingFaceDirectory: Sendable {
  let path: String
  let model: SafetensorsModel
  /// A GGUF header without tensors.
  let header: MappedFile
  /// Under GGUF's names, each in one of ``mappings``.
  let tensors: [GGUFTensor]
  /// Tensors that were made, then the safetensors files.
  let mappings: [MappedFile]
  private let quantization: HuggingFaceConfiguration.Quantization
  /// `weight_scale` of packed ternary matrices, by GGUF's names.
  private let weightScales: [String: Float]

  /// Whether a path is a folder with a configuration.
  static func isDirectory(_ path: String) -> Bool {
    FileNames.isFolder(path)
      && (FileNames.exists(path + "/config.json") || FileNames.exists(path + "/tokenizer.json")
        || FileNames.exists(path + "/model.safetensors")
        || FileNames.exists(path + "/model.safetensors.index.json"))
  }

  /// - Complexity: O(header of the safetensors files + tokenizer).
  init(path: String) throws(QuantError) {
    var folder = path
    while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
    self.path = folder
    let configuration = try HuggingFaceConfiguration(path: folder + "/config.json")
    model = try SafetensorsModel(path: folder)
    quantization = configuration.quantization
    var reader = HuggingFaceTensors(model, configuration, path: folder)
    try reader.readAll()
    tensors = reader.tensors
    weightScales = reader.weightScales
    mappings =
      [reader.made.withUnsafeBytes { MappedFile(copying: $0, name: folder) }]
      + model.files.map(\.file)
    let tokenizer = try HuggingFaceTokenizer(
      folder: folder, size: reader.vocabularySize, configuration: configuration)
    var writer = GGUFWriter()
    for (key, value) in configuration.metadata + tokenizer.metadata { try writer.set(key, value) }
    header = try writer.serialized().withUnsafeBytes { MappedFile(copying: $0, name: folder) }
  }

  /// A layer's ternary matrix.
  ///
  /// - Throws: ``QuantError`` `.invalidData` for codes or a scale that are none.
  func ternaryMatrix(
    _ tensor: GGUFTensor, bytes: UnsafeRawBufferPointer
  ) throws(QuantError) -> TernaryMatrix {
    do throws(QuantError) {
      if tensor.storage == .roundedTernary {
        var values = [Float](repeating: 0, count: tensor.elementCount)
        try values.withUnsafeMutableBufferPointer { values throws(QuantError) in
          try GGMLBlocks.dequantize(
            GGMLType(rawValue: tensor.typeNumber) ?? .f32, bytes, into: values)
        }
        return try TernaryMatrix(quantizing: values, rows: tensor.rows, columns: tensor.columns)
      }
      guard case .packedTernary(let convention) = quantization,
        let scale = weightScales[tensor.name]
      else {
        throw QuantError(
          .invalidData, path, "has no weight_scale", remedy: "fetch the directory again")
      }
      return try TernaryMatrix(
        HuggingFaceTernary(
          weights: Array(bytes), weightShape: [(tensor.rows + 3) / 4, tensor.columns],
          weightScale: scale, convention: convention, rows: tensor.rows))
    } catch {
      throw QuantError(
        error.code, "\(path): \(tensor.name), \(error.subject)", error.problem,
        remedy: error.remedy)
    }
  }

  /// Everything that int4 and ternary layers have besides their weights.
  func updateInt4(_ hash: inout XXH64) {
    guard quantization != .none else { return }
    for tensor in model.tensors { hash.update(model.bytes(of: tensor)) }
  }
}

extension GGUFFile {
  /// The values of a tensor that is no GGUF blocks: ternary or int4; nil for others.
  ///
  /// - Throws: ``QuantError`` for codes or scales that are none.
  func foreignFloats(of tensor: GGUFTensor) throws(QuantError) -> [Float]? {
    switch tensor.storage {
    case .blocks: return nil
    case .int4: return try Int4Overlay(of: self)?.floats(of: tensor)
    case .nativeTernary, .packedTernary, .roundedTernary:
      return try TernaryWeights.matrix(
        tensor, columns: tensor.columns, file: self, order: .x86)?.dequantized()
    }
  }
}
