import QuantKernels

/// Tensors of a model file, looked up by name with their shape checked.
struct ModelTensors {
  let file: GGUFFile

  private func missing(_ name: String) -> QuantError {
    QuantError(
      .invalidData, name, "the file holds no such tensor", remedy: "export the model again")
  }

  /// The type of a tensor, when it is one that the kernels know.
  func type(of tensor: GGUFTensor) throws(QuantError) -> GGMLType {
    guard let type = tensor.type else {
      throw QuantError(
        .unsupported, tensor.name,
        tensor.storage == .blocks
          ? "tensor type number \(tensor.typeNumber)"
          : "\(tensor.typeName) weights cannot be read here as blocks",
        remedy: "convert the model to one of "
          + GGMLType.allCases.map(\.name).joined(separator: ", "))
    }
    return type
  }

  /// A matrix of exactly `rows × columns`.
  func matrix(_ name: String, rows: Int, columns: Int) throws(QuantError) -> GGUFTensor {
    guard let tensor = file.tensor(named: name) else { throw missing(name) }
    guard tensor.dimensions.count == 2, tensor.columns == columns, tensor.rows == rows else {
      throw QuantError(
        .invalidData, name, "shape \(tensor.dimensions) where [\(columns), \(rows)] belongs",
        remedy: "export the model again")
    }
    if tensor.isTernary || tensor.storage == .int4 { return tensor }
    let type = try type(of: tensor)
    guard type.tailBytes > 0 || type.rowBytes(columns: columns) != nil else {
      throw QuantError(
        .invalidData, name,
        "\(columns) columns are no multiple of the \(type.blockElements) of \(type.name)",
        remedy: "convert the model with another type for this tensor")
    }
    return tensor
  }

  /// The values of a vector of exactly `length` elements, which must be finite.
  func vector(_ tensor: GGUFTensor, length: Int) throws(QuantError) -> [Float] {
    guard tensor.columns == length, tensor.rows == 1 else {
      throw QuantError(
        .invalidData, tensor.name, "shape \(tensor.dimensions) where [\(length)] belongs",
        remedy: "export the model again")
    }
    let type = try type(of: tensor)
    var values = [Float](repeating: 0, count: length)
    do {
      let bytes = file.bytes(of: tensor)
      try values.withUnsafeMutableBufferPointer { buffer in
        try GGMLBlocks.dequantize(type, bytes, into: buffer)
      }
    } catch let error as QuantError {
      throw error
    } catch {
      throw QuantError(
        .invalidData, tensor.name, "the values cannot be read", remedy: "export the model again")
    }
    guard values.allSatisfy(\.isFinite) else {
      throw QuantError(
        .invalidData, tensor.name, "a value is NaN or infinite", remedy: "export the model again")
    }
    return values
  }

  func vector(_ name: String, length: Int) throws(QuantError) -> [Float] {
    guard let tensor = file.tensor(named: name) else { throw missing(name) }
    return try vector(tensor, length: length)
  }

  /// The values of a vector that a file may lack.
  func optionalVector(_ name: String, length: Int) throws(QuantError) -> [Float]? {
    guard let tensor = file.tensor(named: name) else { return nil }
    return try vector(tensor, length: length)
  }
}
