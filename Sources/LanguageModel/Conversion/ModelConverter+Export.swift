import QuantKernels
import Synchronization

extension ModelConverter {
  /// A checkpoint of floats or GGUF blocks to int4 safetensors.
  ///
  /// - Parameter vectorType: of what has one dimension, F16 or F32.
  func exportLayers(
    of checkpoint: some Checkpoint, as format: Int4Tensors.Format, path: String,
    vectorType: SafetensorsType = .f16, _ work: Work
  ) throws(QuantError) -> Summary {
    if options.embeddingType != nil {
      throw QuantError(
        .invalidArgument, "--embeddings", "embeddings are F16 in safetensors",
        remedy: "leave the option out")
    }
    let linear = checkpoint.entries.filter(\.isLinear)
    let keepsCodes =
      linear.allSatisfy(\.isInt4) && (options.groupSize ?? 32) == 32 && !linear.isEmpty
      && options.calibrationText == nil
    // Codes of all layers, one a byte and then packed; and of one tensor at a time its floats, in
    // two orders, and what they become.
    let sizes = checkpoint.entries.map { entry in MemoryRequirement.sum([entry.shape]) }
    try checkMemory(linear.map { [2] + $0.shape } + [[12, sizes.max() ?? 0]])
    let groupSize = keepsCodes ? 32 : try chooseGroupSize(linear)
    var summary = Summary()
    summary.groupSize = groupSize
    var layers: [(layer: String, matrix: Int4Matrix)] = []
    let calibrated = try calibrate(
      linear, of: checkpoint, groupSize: groupSize, summary: &summary, work)
    for (index, entry) in linear.enumerated() {
      try work.check()
      let layer = String(entry.name.dropLast(".weight".count))
      if let matrix = calibrated[entry.name] {
        layers.append((layer, matrix))
      } else if keepsCodes, let matrix = try checkpoint.int4(entry) {
        layers.append((layer, matrix))
        summary.exact += 1
      } else {
        layers.append(
          (
            layer,
            try quantize(
              try checkpoint.floats(entry), layer: layer, rows: entry.shape[0],
              columns: entry.shape[1], groupSize: groupSize,
              symmetric: options.symmetric || format == .marlin)
          ))
      }
      work.report(index + 1, of: linear.count + 1)
    }
    var moved = MovedOrders()
    if options.movesInputOrder {
      let file = try GGUFFile(path: source)
      summary.movedBlocks = try moved.move(&layers, path: source)
      summary.movedAttentions = try moved.moveHeads(
        &layers, configuration: try ModelConfiguration(file: file), path: source)
    }
    let final = Self.finalFormat(format, layers.map(\.matrix))
    summary.format = final
    var writer = SafetensorsWriter(metadata: Self.metadata(final, groupSize: groupSize))
    writer.metadata.merge(moved.metadata) { _, new in new }
    if options.calibrationText != nil { writer.metadata["desc_act"] = String(options.actOrder) }
    for entry in layers {
      try work.check()
      try Self.add(entry, final, to: &writer)
    }
    for entry in checkpoint.entries where !entry.isLinear {
      let isWhole = vectorType == .f32 && entry.shape.count == 1
      try writer.addTensor(entry.name, type: isWhole ? .f32 : .f16, shape: entry.shape) {
        sink throws(QuantError) in
        try work.check()
        let values = try checkpoint.floats(entry)
        let bytes =
          try isWhole ? GGMLBlocks.quantize(.f32, values) : Self.halves(values, entry.name)
        guard let order = moved.biasOrders[entry.name] else { return try sink.write(bytes) }
        try sink.write(try MovedOrders.gather(bytes, order, entry.name))
      }
    }
    summary.converted = linear.count
    summary.tensors = checkpoint.entries.count
    try writer.write(to: path, isCancelled: work.isCancelled)
    return summary
  }

  /// The largest of 128, 64 and 32 that divides the inputs of all layers, or what was asked for.
  private func chooseGroupSize(_ linear: [CheckpointEntry]) throws(QuantError) -> Int {
    if let wanted = options.groupSize {
      guard wanted > 0, let bad = linear.first(where: { $0.shape[1] % wanted != 0 }) else {
        return wanted
      }
      throw QuantError(
        .invalidArgument, "--group \(wanted)",
        "does not divide the \(bad.shape[1]) inputs of \(bad.name)",
        remedy: "choose a multiple of 32 that divides the inputs of all layers")
    }
    let fits = [128, 64, 32].first { size in linear.allSatisfy { $0.shape[1] % size == 0 } }
    guard let fits else {
      throw QuantError(
        .unsupported, source, "no group size of 128, 64 or 32 divides the inputs of all layers",
        remedy: "choose a GGUF type instead")
    }
    return fits
  }

  /// Quantizes a matrix, blocks of rows in parallel.
  func quantize(
    _ values: [Float], layer: String, rows: Int, columns: Int, groupSize: Int, symmetric: Bool
  ) throws(QuantError) -> Int4Matrix {
    guard rows > 0, columns > 0, values.count == rows * columns else {
      throw QuantError(
        .invalidData, "layer \(layer)", "\(values.count) weights are not \(rows)×\(columns)",
        remedy: "fetch the file again")
    }
    let partRows = max(1, (rows + 4 * pool.threads - 1) / (4 * pool.threads))
    let count = (rows + partRows - 1) / partRows
    let results = Mutex<[Result<Int4Matrix, QuantError>?]>(Array(repeating: nil, count: count))
    pool.run(parts: count) { part, _ in
      let start = part * partRows
      let end = min(start + partRows, rows)
      let result = Result { () throws(QuantError) in
        try Int4Matrix(
          quantizing: Array(values[start * columns..<end * columns]), rows: end - start,
          columns: columns, groupSize: groupSize, symmetric: symmetric)
      }
      results.withLock { $0[part] = result }
    }
    do throws(QuantError) {
      var parts: [Int4Matrix] = []
      for result in results.withLock({ $0 }) { if let result { parts.append(try result.get()) } }
      return try Int4Matrix.joined(parts)
    } catch {
      throw QuantError(
        error.code, "layer \(layer), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }

  private static func halves(_ values: [Float], _ name: String) throws(QuantError) -> [UInt8] {
    var halves: [UInt16] = []
    halves.reserveCapacity(values.count)
    for (index, value) in values.enumerated() {
      let half = HalfPrecision.half(value)
      guard HalfPrecision.isFinite(half: half) else {
        throw QuantError(
          .unsupported, "tensor \(name)", "value \(value) at \(index) is beyond binary16",
          remedy: "convert to a GGUF type, which keeps float32 where it must")
      }
      halves.append(half)
    }
    return Int4Layers.bytes(halves)
  }
}
