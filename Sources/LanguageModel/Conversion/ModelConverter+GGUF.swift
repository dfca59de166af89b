import QuantKernels

extension ModelConverter {
  /// GGUF to GGUF.
  func requantize(
    _ file: GGUFFile, to type: GGMLType, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    // Rows of one part for each worker, as floats and as blocks.
    let widest = file.tensors.map(\.columns).max() ?? 0
    // I2_S takes a whole matrix as floats, codes and bytes.
    let largest = type == .i2_s ? file.tensors.map(\.elementCount).max() ?? 0 : 0
    try checkMemory([[8, 4, pool.threads, widest], [6, largest]])
    var writer = GGUFWriter()
    writer.copyMetadata(from: file.metadata)
    try writer.set("general.file_type", .uint32(Self.fileType(type)))
    if type.blockElements > 1 { try writer.set("general.quantization_version", .uint32(2)) }
    var summary = Summary()
    for tensor in file.tensors {
      let wanted = self.type(of: tensor, wanted: type)
      summary.tensors += 1
      if Self.isMatrix(tensor) {
        if wanted != (Self.isEmbedding(tensor.name) ? embeddingType(type) : type) {
          summary.fallbacks.append(tensor.name)
        } else {
          summary.converted += 1
        }
        if wanted.rawValue == tensor.typeNumber { summary.exact += 1 }
      }
      if wanted.rawValue == tensor.typeNumber {
        try writer.addTensor(copying: tensor, from: file)
        continue
      }
      guard let sourceType = tensor.type else {
        throw QuantError(
          .unsupported, "\(source): tensor \(tensor.name)", "\(tensor.typeName) cannot be read",
          remedy: "start from a file of a common type, such as F16 or Q8_0")
      }
      if wanted == .i2_s {
        try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
          sink throws(QuantError) in
          try work.check()
          try sink.write(try Self.ternary(file.bytes(of: tensor), sourceType, tensor))
        }
        continue
      }
      let rows = RowConversion(
        name: tensor.name, source: sourceType, target: wanted, columns: tensor.columns,
        rows: tensor.rows, pool: pool)
      try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
        sink throws(QuantError) in
        try rows.write(file.bytes(of: tensor), to: sink, work)
      }
    }
    try writer.write(to: path, isCancelled: work.isCancelled) { written, total in
      work.report(written, of: total)
    }
    return summary
  }

  /// Matrices are converted: two dimensions or more, with more than one row. Norms, biases, scales
  /// and frequency divisors have one.
  static func isMatrix(_ tensor: GGUFTensor) -> Bool {
    tensor.rows > 1 && tensor.dimensions.count >= 2
  }

  private static func isEmbedding(_ name: String) -> Bool {
    name == "token_embd.weight" || name == "output.weight"
  }

  private func type(of tensor: GGUFTensor, wanted: GGMLType) -> GGMLType {
    guard Self.isMatrix(tensor) else { return .f32 }
    let type = Self.isEmbedding(tensor.name) ? embeddingType(wanted) : wanted
    return tensor.columns % type.blockElements == 0 ? type : .f16
  }

  /// BitNet keeps the embedding and the head as floats.
  private func embeddingType(_ wanted: GGMLType) -> GGMLType {
    options.embeddingType ?? (ConversionTarget.ternaryTypes.contains(wanted) ? .f16 : wanted)
  }

  /// A matrix as I2_S: exactly when it is ternary with one scale, else by its mean magnitude.
  private static func ternary(
    _ bytes: UnsafeRawBufferPointer, _ type: GGMLType, _ tensor: GGUFTensor
  ) throws(QuantError) -> [UInt8] {
    do throws(QuantError) {
      var values = [Float](repeating: 0, count: tensor.elementCount)
      var failure: QuantError?
      values.withUnsafeMutableBufferPointer { values in
        do throws(QuantError) {
          try GGMLBlocks.dequantize(type, bytes, into: values)
        } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      let exact = try? TernaryMatrix(exactly: values, rows: tensor.rows, columns: tensor.columns)
      let matrix: TernaryMatrix
      if let exact, exact.commonScale != nil {
        matrix = exact
      } else {
        matrix = try TernaryMatrix(
          quantizing: values, rows: tensor.rows, columns: tensor.columns)
      }
      return try matrix.packed(as: .i2s(.x86))
    } catch {
      throw QuantError(
        error.code, "tensor \(tensor.name), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }

  /// `general.file_type`, the numbers of llama.cpp's `llama_ftype`.
  private static func fileType(_ type: GGMLType) -> UInt32 {
    switch type {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q4_1: 3
    case .q8_0: 7
    case .bf16: 32
    case .q5_0: 8
    case .q5_1: 9
    case .q4_k: 15
    case .q5_k: 17
    case .q6_k: 18
    case .tq1_0: 36
    case .tq2_0: 37
    case .i2_s: 40  // BitNet's fork
    }
  }
}
