import QuantKernels

/// What this processor does where a paper is about a GPU, an NPU or several of them: no figure is
/// published for it.
extension ProcessorMeasurements {
  static func productCommand(_ format: String, rows: String) -> String {
    "quantkernels bench matmul --format \(format) --m \(rows) --n \(extent) --k \(extent)"
  }

  /// Interleaved int4 weights in products of several batches.
  func quickClaims() throws(QuantError) -> [Claim] {
    try products().filter { [1, 16, 128, 512].contains($0.shape.tokens) }.map { report in
      let isCold = report.shape.tokens == 1
      let share =
        isCold
        ? "\(fixed(100 * report.shareOfRead, 0)) % of read bandwidth"
        : "\(fixed(100 * report.shareOfInt8, 0)) % of int8 peak"
      return Paper.quick.claim(
        "int4 product on this processor, \(report.shape.tokens) × \(Self.extent) × \(Self.extent), "
          + "weights interleaved for its dot instruction",
        source: "not published for processors",
        ours: .string("\(fixed(report.gigaMACs, 0)) GMAC/s, \(share)"), kind: .measured,
        command: Self.productCommand("int4", rows: "\(report.shape.tokens)") + threadOption)
    }
  }

  /// Ternary weights against float16 ones in one cold row.
  func bitnetClaims() throws(QuantError) -> [Claim] { coldRowClaims(try coldRows()) }

  /// The first of them, in seconds.
  func shortBitnetClaims() throws(QuantError) -> [Claim] {
    coldRowClaims([try coldRow("f16"), try coldRow("ternary")])
  }

  private func coldRowClaims(_ rows: [MatmulReport]) -> [Claim] {
    guard let half = rows.first(where: { $0.weights.typeName.lowercased() == "f16" }) else {
      return []
    }
    return rows.filter(\.shape.isTernary).map { row in
      let ratio = half.result.microseconds.median / row.result.microseconds.median
      let bytes = Double(half.weights.byteCount) / Double(row.weights.byteCount)
      return Paper.bitnet.claim(
        "one cold row of \(Self.extent) × \(Self.extent), \(row.weights.typeName): times as fast as "
          + "float16",
        source: "not published for one product; \(fixed(bytes, 1)) times fewer bytes",
        ours: JSON(ratio), kind: .measured,
        command: Self.productCommand(row.weights.typeName, rows: "1") + threadOption)
    }
  }

  /// A decode step over latents beside whole caches.
  func paluClaims() throws(QuantError) -> [Claim] {
    let positions = 4096
    let result = try decodeStep(over: positions)
    guard let latents = result.rows.first else { return [] }
    return result.rows.dropFirst().map { row in
      Paper.palu.claim(
        "decode step over \(positions) positions on this processor: latents of half the elements, 4 "
          + "bits, times as fast as a whole \(row.name) cache",
        source: "not published for processors; "
          + "\(fixed(Double(row.bytesPerPosition) / Double(latents.bytesPerPosition), 1)) times fewer "
          + "bytes",
        ours: JSON(row.microseconds.median / latents.microseconds.median), kind: .measured,
        command: Self.stepCommand(positions) + threadOption)
    }
  }

  static func stepCommand(_ positions: Int) -> String {
    "quantkernels bench latent-attention --kv-length \(positions) --beside f32,f16,q8_0,q4_0"
  }

  /// Tiled attention against the way without tiles.
  func fastAttentionClaims() throws(QuantError) -> [Claim] {
    try promptAttention().compactMap { report in
      guard let unfused = report.result.unfused else { return nil }
      let length = report.attention.queryLength
      let ratio = unfused.microseconds.median / report.result.rounds.microseconds.median
      return Paper.fastAttention.claim(
        "tiled against unfused attention on this processor, \(length) × \(length), "
          + "\(report.attention.isCausal ? "causal" : "no mask"), float32, \(Self.promptHeads) heads",
        source: "not published for processors", ours: JSON(ratio), kind: .measured,
        command: Self.promptCommand("\(length)", isCausal: report.attention.isCausal) + threadOption
      )
    }
  }

  static func promptCommand(_ length: String, isCausal: Bool) -> String {
    "quantkernels bench attention --query-length \(length) --kv-length \(length) --heads "
      + "\(promptHeads) --kv-type f32 --unfused" + (isCausal ? " --causal" : "")
  }
}
