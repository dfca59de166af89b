import QuantKernels

extension ModelConverter {
  /// GGUF to GGUF or, with the ternary `type`, to a native file.
  func requantize(
    _ file: GGUFFile, to type: GGMLType, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    let isNative = target == .native
    // Rows of one part for each worker, as floats and as blocks.
    let widest = file.tensors.map(\.columns).max() ?? 0
    // A ternary matrix is taken whole, as floats, codes and bytes.
    let isWhole =
      type == .i2_s || file.tensors.contains { $0.isTernary || $0.storage == .int4 }
    let largest = isWhole ? file.tensors.map(\.elementCount).max() ?? 0 : 0
    try checkMemory([[8, 4, pool.threads, widest], [6, largest]])
    var writer = GGUFWriter()
    writer.copyMetadata(
      from: file.metadata,
      except: Set(
        file.metadata.keys.filter {
          $0.hasPrefix(NativeContainer.keyPrefix) || $0 == ModelConfiguration.rotaryStyleKey
        }))
    let orders = try RowOrders(of: file)
    try writer.set("general.file_type", .uint32(Self.fileType(type)))
    if type.blockElements > 1 { try writer.set("general.quantization_version", .uint32(2)) }
    var summary = Summary()
    for tensor in file.tensors {
      let wanted = self.type(of: tensor, wanted: type)
      // Of the same type: copied. A native matrix and I2_S are the same codes in two orders.
      let isCopied =
        tensor.storage == .blocks && wanted.rawValue == tensor.typeNumber
        && !(isNative && wanted == .i2_s)
      let isExact =
        isCopied || wanted == .i2_s && (tensor.isTernary || tensor.type == .i2_s)
      summary.tensors += 1
      if Self.isMatrix(tensor) {
        if wanted != (Self.isEmbedding(tensor.name) ? embeddingType(type) : type) {
          summary.fallbacks.append(tensor.name)
        } else {
          summary.converted += 1
        }
        if isExact { summary.exact += 1 }
      }
      let order = try orders.order(tensor)
      try add(tensor, of: file, as: wanted, isCopied: isCopied, order: order, to: &writer, work)
    }
    let report = { (written: Int, total: Int) in work.report(written, of: total) }
    if isNative {
      try writer.writeNative(to: path, isCancelled: work.isCancelled, progress: report)
    } else {
      try writer.write(to: path, isCancelled: work.isCancelled, progress: report)
    }
    return summary
  }

  private func add(
    _ tensor: GGUFTensor, of file: GGUFFile, as wanted: GGMLType, isCopied: Bool,
    order: [Int32]?, to writer: inout GGUFWriter, _ work: Work
  ) throws(QuantError) {
    if target == .native, wanted == .i2_s {
      try writer.addTernary(tensor.name, rows: tensor.rows, columns: tensor.columns) {
        () throws(QuantError) in
        try work.check()
        return try ternary(tensor, of: file, order: order)
      }
    } else if isCopied, let order {
      try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
        sink throws(QuantError) in
        try sink.write(MovedOrders.gather(Array(file.bytes(of: tensor)), order))
      }
    } else if isCopied {
      try writer.addTensor(copying: tensor, from: file)
    } else if wanted == .i2_s {
      try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
        sink throws(QuantError) in
        try work.check()
        try sink.write(try ternary(tensor, of: file, order: order).packed(as: .i2s(.x86)))
      }
    } else if tensor.storage != .blocks {
      try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
        sink throws(QuantError) in
        try work.check()
        let values = try file.foreignFloats(of: tensor) ?? []
        try sink.write(
          try GGMLBlocks.quantize(wanted, order.map { MovedOrders.gather(values, $0) } ?? values))
      }
    } else {
      let rows = RowConversion(
        name: tensor.name, source: try sourceType(tensor), target: wanted, columns: tensor.columns,
        rows: tensor.rows, pool: pool)
      try writer.addTensor(tensor.name, type: wanted, dimensions: tensor.dimensions) {
        sink throws(QuantError) in
        guard let order else { return try rows.write(file.bytes(of: tensor), to: sink, work) }
        let ordered = MovedOrders.gather(Array(file.bytes(of: tensor)), order)
        try ordered.withUnsafeBufferPointer { bytes throws(QuantError) in
          try rows.write(UnsafeRawBufferPointer(bytes), to: sink, work)
        }
      }
    }
  }

  private func sourceType(_ tensor: GGUFTensor) throws(QuantError) -> GGMLType {
    if let type = tensor.type { return type }
    throw QuantError(
      .unsupported, "\(source): tensor \(tensor.name)", "\(tensor.typeName) cannot be read",
      remedy: "start from a file of a common type, such as F16 or Q8_0")
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
    if type == .i2_s {
      // I2_S is whole blocks over the tensor; a native matrix pads its rows.
      return target == .native || tensor.elementCount % type.blockElements == 0 ? type : .f16
    }
    return tensor.columns % type.blockElements == 0 ? type : .f16
  }

  /// BitNet keeps the embedding and the head as floats.
  private func embeddingType(_ wanted: GGMLType) -> GGMLType {
    options.embeddingType ?? (ConversionTarget.ternaryTypes.contains(wanted) ? .f16 : wanted)
  }

  /// A matrix as ternary weights: exactly when it is ternary with one scale, else by its mean
  /// magnitude.
  func ternary(
    _ tensor: GGUFTensor, of file: GGUFFile, order: [Int32]?
  ) throws(QuantError) -> TernaryMatrix {
    let matrix = try ternary(tensor, of: file)
    guard let order, let scale = matrix.commonScale else { return matrix }
    return try TernaryMatrix(
      rows: matrix.rows, columns: matrix.columns,
      codes: MovedOrders.gather(matrix.codes, order), scales: .tensor(scale))
  }

  /// The same, in the file's own order of rows.
  func ternary(
    _ tensor: GGUFTensor, of file: GGUFFile
  ) throws(QuantError) -> TernaryMatrix {
    do throws(QuantError) {
      if tensor.isTernary || tensor.type == .i2_s,
        let matrix = try TernaryWeights.matrix(
          tensor, columns: tensor.columns, file: file, order: .x86)
      {
        return matrix
      }
      if let values = try file.foreignFloats(of: tensor) {
        return try TernaryMatrix(quantizing: values, rows: tensor.rows, columns: tensor.columns)
      }
      var values = [Float](repeating: 0, count: tensor.elementCount)
      var failure: QuantError?
      let type = try sourceType(tensor)
      values.withUnsafeMutableBufferPointer { values in
        do throws(QuantError) {
          try GGMLBlocks.dequantize(type, file.bytes(of: tensor), into: values)
        } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      let exact = try? TernaryMatrix(exactly: values, rows: tensor.rows, columns: tensor.columns)
      if let exact, exact.commonScale != nil { return exact }
      return try TernaryMatrix(quantizing: values, rows: tensor.rows, columns: tensor.columns)
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
