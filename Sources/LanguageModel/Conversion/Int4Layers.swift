import QuantKernels

/// Int4 layers of safetensors files under the public tools' names: `X.qweight`, `X.qzeros`,
/// `X.scales`, `X.g_idx`, and `X.B` with `X.s` as Marlin's own tool writes them.
enum Int4Layers {
  /// The suffixes of a layer's tensors besides its weight; Marlin's workspace is scratch memory.
  private static let companions = [".qzeros", ".scales", ".g_idx", ".s", ".workspace"]

  static func isWeight(_ name: String) -> Bool {
    name.hasSuffix(".qweight") || name.hasSuffix(".B")
  }

  /// The metadata key of a layer's outputs where its tensors are padded.
  static func outputsKey(_ layer: String) -> String { "outputs.\(layer)" }

  /// The layer that a tensor belongs to as its weight.
  static func layer(ofWeight name: String) -> String {
    String(name[..<(name.lastIndex(of: ".") ?? name.endIndex)])
  }

  /// Whether a tensor belongs to one of `layers` beside its weight.
  static func isCompanion(_ name: String, of layers: Set<String>) -> Bool {
    guard companions.contains(where: { name.hasSuffix($0) }) else { return false }
    return layers.contains(layer(ofWeight: name))
  }

  /// Reads a layer; its format follows from the tensors' shapes.
  ///
  /// - Parameter storesZeroPointsWhole: whether GPTQ zero points are stored as they are
  ///   (`checkpoint_format: gptq_v2`).
  /// - Throws: `QuantError` `.invalidData` when a tensor is missing, has another type, or its
  ///   shape suits no format.
  static func read(
    _ layer: String, from model: SafetensorsModel, storesZeroPointsWhole: Bool
  ) throws(QuantError) -> Int4Tensors {
    let marlinWeight = model.tensor(named: layer + ".B")
    guard let weight = marlinWeight ?? model.tensor(named: layer + ".qweight"),
      let scale = model.tensor(named: layer + (marlinWeight == nil ? ".scales" : ".s"))
    else {
      throw QuantError(
        .invalidData, "layer \(layer)", "has no scales", remedy: "fetch the checkpoint again")
    }
    let zero = model.tensor(named: layer + ".qzeros")
    let index = model.tensor(named: layer + ".g_idx")
    guard weight.type == .i32, scale.type == .f16, zero.map({ $0.type == .i32 }) ?? true,
      index.map({ $0.type == .i32 }) ?? true, weight.shape.count == 2, scale.shape.count == 2
    else {
      throw QuantError(
        .invalidData, "layer \(layer)",
        "its tensors are \(weight.type.rawValue) \(weight.shape) and \(scale.type.rawValue) "
          + "\(scale.shape), not I32 weights and F16 scales of two dimensions",
        remedy: "give a 4-bit AWQ, GPTQ, QUICK or Marlin checkpoint")
    }
    let format = try format(
      layer, width: weight.shape[1], scales: scale.shape[1], hasZeroPoints: zero != nil,
      hasIndices: index != nil, storesZeroPointsWhole: storesZeroPointsWhole)
    do throws(QuantError) {
      return try Int4Tensors(
        format: format, weights: words(model.bytes(of: weight)), weightShape: weight.shape,
        scales: halves(model.bytes(of: scale)), scaleShape: scale.shape,
        zeroPoints: zero.map { words(model.bytes(of: $0)) } ?? [],
        zeroPointShape: zero?.shape ?? [],
        groupIndices: index.map { words(model.bytes(of: $0)).map { Int32(bitPattern: $0) } })
    } catch {
      throw QuantError(
        error.code, "layer \(layer), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }

  /// The scales' width over the weight words' width is 8 for AWQ, 4 for QUICK, 1 for GPTQ and ½ for
  /// Marlin.
  private static func format(
    _ layer: String, width: Int, scales: Int, hasZeroPoints: Bool, hasIndices: Bool,
    storesZeroPointsWhole: Bool
  ) throws(QuantError) -> Int4Tensors.Format {
    if width > 0, scales > 0 {
      if scales / width == 8, scales % width == 0, hasZeroPoints { return .awq }
      if scales / width == 4, scales % width == 0, hasZeroPoints { return .quick }
      if scales == width, hasZeroPoints { return storesZeroPointsWhole ? .gptqV2 : .gptq }
      if width / scales == 2, width % scales == 0, !hasZeroPoints, !hasIndices { return .marlin }
    }
    throw QuantError(
      .invalidData, "layer \(layer)",
      "weights of width \(width) and scales of width \(scales) are of no known format",
      remedy: "give a 4-bit AWQ, GPTQ, QUICK or Marlin checkpoint")
  }

  /// Adds a layer's tensors; GPTQ always gets its `g_idx`.
  static func add(
    _ tensors: Int4Tensors, layer: String, to writer: inout SafetensorsWriter
  ) throws(QuantError) {
    try writer.addTensor(layer + ".qweight", type: .i32, shape: tensors.weightShape) {
      sink throws(QuantError) in try sink.write(bytes(tensors.weights))
    }
    try writer.addTensor(layer + ".scales", type: .f16, shape: tensors.scaleShape) {
      sink throws(QuantError) in try sink.write(bytes(tensors.scales))
    }
    if !tensors.zeroPoints.isEmpty {
      try writer.addTensor(layer + ".qzeros", type: .i32, shape: tensors.zeroPointShape) {
        sink throws(QuantError) in try sink.write(bytes(tensors.zeroPoints))
      }
    }
    if tensors.format == .gptq || tensors.format == .gptqV2 {
      let indices =
        tensors.groupIndices
        ?? (0..<tensors.columns).map { Int32(truncatingIfNeeded: $0 / tensors.groupSize) }
      try writer.addTensor(layer + ".g_idx", type: .i32, shape: [tensors.columns]) {
        sink throws(QuantError) in try sink.write(bytes(indices.map { UInt32(bitPattern: $0) }))
      }
    }
  }

  private static func words(_ bytes: UnsafeRawBufferPointer) -> [UInt32] {
    (0..<bytes.count / 4).map {
      UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
    }
  }

  private static func halves(_ bytes: UnsafeRawBufferPointer) -> [UInt16] {
    (0..<bytes.count / 2).map {
      UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self))
    }
  }

  static func bytes<Word: FixedWidthInteger>(_ words: [Word]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(words.count * MemoryLayout<Word>.size)
    for word in words { withUnsafeBytes(of: word.littleEndian) { bytes.append(contentsOf: $0) } }
    return bytes
  }
}
