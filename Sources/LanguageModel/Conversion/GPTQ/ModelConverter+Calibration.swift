import QuantKernels
import Synchronization

extension ModelConverter {
  /// Bytes of Hessians that are held at once; with more layers the text is read again.
  private static let hessianBytes = 2 << 30

  /// Quantizes linear layers by GPTQ over the calibration text; nothing where there is none.
  ///
  /// Inputs are those of the original model: each layer is quantized for what the unquantized layers
  /// before it give.
  ///
  /// - Returns: the layers by the names of their weights.
  /// - Throws: `QuantError` as ``LanguageModel``, ``GPTQFactor`` and ``Int4Matrix``.
  func calibrate(
    _ linear: [CheckpointEntry], of checkpoint: some Checkpoint, groupSize: Int,
    summary: inout Summary, _ work: Work
  ) throws(QuantError) -> [String: Int4Matrix] {
    guard let text = options.calibrationText else { return [:] }
    var modelOptions = LanguageModel.Options()
    modelOptions.threads = pool.threads
    modelOptions.contextLength = nil
    modelOptions.memoryLimit = options.memoryLimit
    let model = try LanguageModel(path: source, options: modelOptions)
    var tokens = Array(
      model.tokenizer.encode(text, parseSpecial: false).prefix(options.calibrationTokens))
    if model.tokenizer.addsBeginningOfSequence, let first = model.tokenizer.beginningOfSequence {
      tokens.insert(first, at: 0)
    }
    var result = CalibrationSummary(tokens: tokens.count)
    var layers: [String: Int4Matrix] = [:]
    let groups = try Self.byInput(linear)
    var done = 0
    for part in Self.parts(groups) {
      let wanted = Dictionary(
        uniqueKeysWithValues: part.map { ($0.key, $0.entries[0].shape[1]) })
      let hessians = try Calibration.hessians(of: wanted, model: model, tokens: tokens, work: work)
      let factors = try factors(
        of: part.map(\.key), hessians, configuration: model.configuration, work)
      for group in part {
        guard let hessian = hessians[group.key], let factor = factors[group.key] else { continue }
        guard hessian.rows > 0 else {
          throw QuantError(
            .invalidData, "layer \(group.entries[0].name)", "read nothing during calibration",
            remedy: "calibrate with a longer text")
        }
        let quantizer = GPTQQuantizer(
          factor: factor, groupSize: groupSize, symmetric: options.symmetric, pool: pool)
        for entry in group.entries {
          try work.check()
          let (rows, columns) = (entry.shape[0], entry.shape[1])
          let values = try checkpoint.floats(entry)
          let matrix = try quantizer.quantize(values, rows: rows, columns: columns)
          let rounded = try quantize(
            values, layer: entry.name, rows: rows, columns: columns, groupSize: groupSize,
            symmetric: options.symmetric)
          let own = try GPTQQuantizer.outputError(
            of: matrix, from: values, sums: hessian.sums, pool: pool)
          let other = try GPTQQuantizer.outputError(
            of: rounded, from: values, sums: hessian.sums, pool: pool)
          let energy = max(own.energy, .leastNormalMagnitude)
          result.layers.append(
            CalibrationSummary.Layer(
              name: entry.name, error: own.error / energy, roundingError: other.error / energy))
          layers[entry.name] = matrix
          done += 1
          work.report(done, of: linear.count + 1)
        }
      }
    }
    summary.calibration = result
    return layers
  }

  /// Layers that read the same inputs, and whose.
  private struct SharedInput {
    let key: Calibration.Key
    var entries: [CheckpointEntry]
  }

  private static func byInput(_ linear: [CheckpointEntry]) throws(QuantError) -> [SharedInput] {
    let kinds = [
      "self_attn.q_proj": 0, "self_attn.k_proj": 0, "self_attn.v_proj": 0, "self_attn.o_proj": 1,
      "mlp.gate_proj": 2, "mlp.up_proj": 2, "mlp.down_proj": 3,
    ]
    var groups: [SharedInput] = []
    for entry in linear {
      // model.layers.N.part.name.weight
      let parts = entry.name.split(separator: ".")
      guard parts.count == 6, let layer = Int(parts[2]),
        let kind = kinds["\(parts[3]).\(parts[4])"]
      else {
        throw QuantError(
          .unsupported, "layer \(entry.name)", "is none that calibration knows",
          remedy: "convert without calibration")
      }
      let key = Calibration.Key(layer: layer, linear: kind)
      if let index = groups.firstIndex(where: { $0.key == key }) {
        groups[index].entries.append(entry)
      } else {
        groups.append(SharedInput(key: key, entries: [entry]))
      }
    }
    return groups
  }

  /// Runs of layers whose Hessians fit the memory that is meant for them, at least one each.
  private static func parts(_ groups: [SharedInput]) -> [[SharedInput]] {
    var parts: [[SharedInput]] = [[]]
    var bytes = 0
    for group in groups {
      // The sums, and the factor in float32.
      let own = CalibrationHessian.byteCount(columns: group.entries[0].shape[1]) * 3 / 2
      if bytes + own > hessianBytes, !parts[parts.count - 1].isEmpty {
        parts.append([])
        bytes = 0
      }
      parts[parts.count - 1].append(group)
      bytes += own
    }
    return parts
  }

  /// Factors of several Hessians, each on one worker.
  private func factors(
    of keys: [Calibration.Key], _ hessians: [Calibration.Key: CalibrationHessian],
    configuration: ModelConfiguration, _ work: Work
  ) throws(QuantError) -> [Calibration.Key: GPTQFactor] {
    let sums = keys.map { hessians[$0].map { (sums: $0.sums, columns: $0.columns) } }
    let results = Mutex<[Result<GPTQFactor, QuantError>?]>(
      Array(repeating: nil, count: keys.count))
    let actOrder = options.actOrder
    // Where orders are to be moved, that of attention's outputs has to stay inside heads.
    let heads = options.movesInputOrder ? configuration : nil
    pool.run(parts: keys.count) { part, _ in
      guard let own = sums[part], !work.isCancelled() else { return }
      let result = Result { () throws(QuantError) in
        try GPTQFactor(
          sums: own.sums, columns: own.columns, actOrder: actOrder,
          heads: keys[part].linear == 1 ? heads : nil)
      }
      results.withLock { $0[part] = result }
    }
    try work.check()
    var factors: [Calibration.Key: GPTQFactor] = [:]
    for (key, result) in zip(keys, results.withLock({ $0 })) {
      if let result { factors[key] = try result.get() }
    }
    return factors
  }
}
