import QuantKernels

/// A Hugging Face checkpoint of floats.
struct SafetensorsCheckpoint: Checkpoint {
  let model: SafetensorsModel
  let entries: [CheckpointEntry]

  /// - Throws: `QuantError` `.unsupported` when there is no linear layer of floats.
  init(_ model: SafetensorsModel, path: String) throws(QuantError) {
    self.model = model
    entries = model.tensors.enumerated().map { index, tensor in
      CheckpointEntry(
        name: tensor.name, shape: tensor.shape,
        isLinear: tensor.name.hasSuffix("_proj.weight") && tensor.shape.count == 2
          && [.f32, .f16, .bf16].contains(tensor.type),
        isInt4: false, index: index)
    }
    guard entries.contains(where: \.isLinear) else {
      throw QuantError(
        .unsupported, path, "has neither int4 layers nor float ones named …_proj.weight",
        remedy: "give a Hugging Face checkpoint of a decoder")
    }
  }

  func floats(_ entry: CheckpointEntry) throws(QuantError) -> [Float] {
    let tensor = model.tensors[entry.index]
    let type: GGMLType
    switch tensor.type {
    case .f32: type = .f32
    case .f16: type = .f16
    case .bf16: type = .bf16
    default:
      throw QuantError(
        .unsupported, "tensor \(tensor.name)", "\(tensor.type.rawValue) is no float type",
        remedy: "leave it out or convert it to F16")
    }
    let bytes = model.bytes(of: tensor)
    var values = [Float](repeating: 0, count: bytes.count / type.blockBytes)
    var failure: QuantError?
    values.withUnsafeMutableBufferPointer { output in
      do throws(QuantError) {
        try GGMLBlocks.dequantize(type, bytes, into: output)
      } catch { failure = error }
    }
    if let failure { throw failure }
    return values
  }

  func int4(_ entry: CheckpointEntry) throws(QuantError) -> Int4Matrix? { nil }
}
