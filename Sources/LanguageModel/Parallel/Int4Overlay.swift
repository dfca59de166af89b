import QuantKernels

/// Int4 layers of a safetensors checkpoint that take the place of a GGUF file's linear layers: the
/// rest of the model, its tokenizer included, stays the file's.
struct Int4Overlay {
  let path: String
  /// Whether these are the layers of the model itself, a directory: others stay what they are.
  let isOwn: Bool
  private let model: SafetensorsModel
  private let checkpoint: GGUFCheckpoint
  private let architecture: String
  private let storesZeroPointsWhole: Bool

  /// - Throws: `QuantError` as ``SafetensorsModel``; `.unsupported` for an architecture without
  ///   layer names.
  init(path: String, file: GGUFFile) throws(QuantError) {
    try self.init(try SafetensorsModel(path: path), path: path, file: file, isOwn: false)
  }

  /// The int4 layers of a directory, or nil where it has none.
  init?(of file: GGUFFile) throws(QuantError) {
    guard let directory = file.directory, file.tensors.contains(where: { $0.storage == .int4 })
    else { return nil }
    try self.init(directory.model, path: file.path, file: file, isOwn: true)
  }

  private init(
    _ model: SafetensorsModel, path: String, file: GGUFFile, isOwn: Bool
  ) throws(QuantError) {
    self.path = path
    self.model = model
    self.isOwn = isOwn
    checkpoint = try GGUFCheckpoint(file)
    architecture = file.metadata.string("general.architecture") ?? ""
    storesZeroPointsWhole =
      try QuantizationConfiguration(of: model).checkpointFormat == "gptq_v2"
    guard model.tensors.contains(where: { Int4Layers.isWeight($0.name) }) else {
      throw QuantError(
        .unsupported, path, "has no int4 layers",
        remedy: "give what convert --to gptq, awq, quick or marlin wrote")
    }
  }

  /// Whether a layer takes this tensor's place.
  func covers(_ tensor: GGUFTensor) -> Bool { !isOwn || tensor.storage == .int4 }

  /// A layer's weights as floats, `[rows · columns]`, inputs in the model's order.
  ///
  /// - Throws: ``QuantError`` as ``matrix(for:)``.
  func floats(of tensor: GGUFTensor) throws(QuantError) -> [Float] {
    let matrix = try matrix(for: tensor)
    let stored = matrix.dequantized()
    guard let inputs = matrix.inputPermutation else { return stored }
    var values = [Float](repeating: 0, count: stored.count)
    for row in 0..<matrix.rows {
      let start = row * matrix.columns
      for (column, input) in inputs.enumerated() {
        values[start + Int(input)] = stored[start + column]
      }
    }
    return values
  }

  /// The layer that takes a tensor's place, rows in the file's order.
  ///
  /// - Throws: `QuantError` `.invalidData` for a layer that is missing or of another shape.
  func matrix(for tensor: GGUFTensor) throws(QuantError) -> Int4Matrix {
    func invalid(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, "\(path): \(tensor.name)", problem,
        remedy: "give int4 layers that were made from this model")
    }
    guard let name = HuggingFaceNames.name(of: tensor.name, architecture: architecture),
      name.hasSuffix(".weight")
    else { throw invalid("has no Hugging Face name") }
    let layer = String(name.dropLast(".weight".count))
    guard model.tensor(named: layer + ".qweight") != nil || model.tensor(named: layer + ".B") != nil
    else { throw invalid("has no int4 layer \(layer)") }
    let tensors = try Int4Layers.read(
      layer, from: model, storesZeroPointsWhole: storesZeroPointsWhole)
    var matrix: Int4Matrix
    do throws(QuantError) { matrix = try Int4Matrix(tensors) } catch {
      throw QuantError(
        error.code, "\(path): \(layer), \(error.subject)", error.problem, remedy: error.remedy)
    }
    let outputs = model.files.lazy.compactMap { $0.metadata[Int4Layers.outputsKey(layer)] }.first
    if let outputs = outputs.flatMap({ Int($0) }), (1..<matrix.rows).contains(outputs) {
      matrix = try matrix.rows(0..<outputs)
    }
    guard matrix.rows == tensor.rows, matrix.columns == tensor.columns else {
      throw invalid(
        "the int4 layer is \(matrix.rows)×\(matrix.columns), the file's "
          + "\(tensor.rows)×\(tensor.columns)")
    }
    guard let order = try checkpoint.rowOrder(tensor) else { return matrix }
    // The checkpoint's row c is the file's row order[c].
    return try matrix.permutingRows(Permutation(order).inverse.order)
  }

  /// The checksum of the order of a down projection's or an attention's output projection's inputs
  /// that was moved into the outputs before it, if one was.
  func movedOrder(ofInputsOf tensor: GGUFTensor) -> UInt64? {
    HuggingFaceNames.name(of: tensor.name, architecture: architecture).flatMap {
      MovedOrders(of: model).order(ofInputsOf: String($0.dropLast(".weight".count)))
    }
  }

  /// Whether values are in another order than the file's.
  var hasMovedValues: Bool { MovedOrders(of: model).hasMovedValues }

  /// The bias that lies beside a tensor's int4 layer, whose outputs may have been moved.
  ///
  /// - Throws: `QuantError` `.invalidData` where there is none of the layer's length.
  func bias(beside tensor: GGUFTensor) throws(QuantError) -> [Float] {
    let name = HuggingFaceNames.name(of: tensor.name, architecture: architecture)
      .map { $0.dropLast("weight".count) + "bias" }
    guard let name, let stored = model.tensor(named: String(name)), stored.type == .f16,
      stored.shape == [tensor.rows]
    else {
      throw QuantError(
        .invalidData, "\(path): \(tensor.name)",
        "its outputs were moved, and there is no bias in binary16 that moved with them",
        remedy: "give the file that convert --tp-aware wrote of this model")
    }
    var values = [Float](repeating: 0, count: tensor.rows)
    var failure: QuantError?
    values.withUnsafeMutableBufferPointer { output in
      do throws(QuantError) {
        try GGMLBlocks.dequantize(.f16, model.bytes(of: stored), into: output)
      } catch { failure = error }
    }
    if let failure { throw failure }
    return values
  }

  /// XXH64 of the files.
  func update(_ hash: inout XXH64) {
    for tensor in model.tensors {
      hash.update(model.bytes(of: tensor))
    }
  }
}
