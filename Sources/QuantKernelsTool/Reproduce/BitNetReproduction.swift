import DeviceModel
import LanguageModel
import QuantKernels

/// bitnet.cpp's claims beside ours: exactness and speed measured on this processor, its GPU kernel
/// modelled.
struct BitNetReproduction {
  private static let paper = Paper.bitnet
  private static let first = "arXiv 2410.16144"

  let claims: [Claim]

  init(threads: Int) throws(QuantError) {
    var claims = try Self.exactness(threads: threads)
    claims += try Self.sizes()
    claims += try Self.speed(threads: threads)
    claims += try Self.gpuTimes(threads: threads)
    claims += Self.unchecked
    self.claims = claims
  }

  /// The sizes of two formats.
  ///
  /// - Throws: ``QuantError`` when Ctrl-C comes.
  static func short() throws(QuantError) -> [Claim] {
    Console.progress("bitnet")
    return Array(try sizes().prefix(2))
  }

  /// What would take their machines, their models or a power meter.
  private static var unchecked: [Claim] {
    [
      paper.unchecked(
        "decode against llama.cpp's float16, 13B on i7-13700H and 70B on M2 Ultra, at most",
        source: "\(first), tables 4 and 5", published: "6.17×, 5.07×",
        reason:
          "it needs those two machines, and float16 models of 26 and 140 GB; the 125M shape is "
          + "measured above"),
      paper.unchecked(
        "energy a token less than float16's: 7B on i7-13700H, 70B on M2 Ultra",
        source: "\(first), table 6", published: "82.2 %, 70.0 %",
        reason: "it needs a power meter and those machines"),
      paper.unchecked(
        "WikiText-2 perplexity of bitnet_b1_58-large: float16, I2_S, TL1_0",
        source: "arXiv 2502.11880, table 2", published: "11.29, 11.29, 11.30",
        reason: "it needs the model's weights; that lossless formats have one another's bits is "
          + "measured above"),
    ]
  }

  private static func load(
    _ model: SyntheticModel, as format: PackedTernary.Format?, threads: Int
  ) throws(QuantError) -> LanguageModel {
    var options = LanguageModel.Options()
    options.threads = threads
    options.ternaryFormat = format
    options.contextLength = 128
    return try LanguageModel(
      file: try GGUFFile(bytes: try model.serialized(), name: "synthetic"), options: options,
      cancellation: Interruption.flag)
  }

  // MARK: Exactness

  /// Table 7, small; `make exact-match` is the whole.
  private static func exactness(threads: Int) throws(QuantError) -> [Claim] {
    var network = SyntheticModel(.bitnetB158)
    network.weightType = .i2_s
    network.vocabularySize = 4096
    let formats: [PackedTernary.Format] = [
      .twoBit, .fiveTrit, .lookupPairs, .lookupTriples, .lookupRoundedPairs, .blockQuantized,
    ]
    var models: [LanguageModel] = []
    for format in formats { models.append(try load(network, as: format, threads: threads)) }
    var match = try ExactMatch(models)
    var random = SeededRandom(seed: 7)
    for prompt in 0..<20 {
      Console.progress("bitnet: prompt \(prompt + 1) of 20")
      let tokens = (0..<12).map { _ in Int32.random(in: 3..<4096, using: &random) }
      try match.add(prompt: tokens, tokens: 24, cancellation: Interruption.flag)
    }
    return zip(formats.dropFirst(), match.comparisons).map { format, comparison in
      let share = 100 * Double(comparison.matchedPrompts) / Double(match.prompts)
      let isExact = share == 100 && comparison.equalSteps == comparison.steps
      // Theirs was measured with the TQ types, whose activations are Q8_K, and not with 8-bit tables.
      let name = format == .blockQuantized ? " (theirs: TQ types)" : ""
      return paper.claim(
        "prompts equal token by token, \(format.rawValue)\(name), %",
        source: "\(first), table 7",
        published: format.isLossless ? 100 : format == .blockQuantized ? 1.4 : .null,
        ours: JSON(share), kind: .measured,
        format.isLossless == isExact ? .holds : .fails,
        reason: format.isLossless
          ? "some token differs from that of the 2-bit format"
          : "no token of these prompts differed, though this arithmetic rounds",
        command: "make exact-match")
    }
  }

  // MARK: Size

  private static func sizes() throws(QuantError) -> [Claim] {
    let (rows, columns) = (4096, 4000)
    let published: [(PackedTernary.Format, Double, String)] = [
      (.twoBit, 2, "I2_S, arXiv 2502.11880"), (.fiveTrit, 1.6, "purpleskulll/bitnet-t5b"),
      (.lookupPairs, 2, "TL1, arXiv 2502.11880"), (.lookupTriples, 1.67, "TL2, arXiv 2502.11880"),
    ]
    var claims: [Claim] = []
    for (format, bits, source) in published {
      let ours = try PackedTernary(
        try TernaryMatrix(
          rows: rows, columns: columns, codes: [UInt8](repeating: 1, count: rows * columns),
          scales: .tensor(1)), format: format
      ).bitsPerWeight
      let error = 100 * (ours / bits - 1)
      claims.append(
        paper.claim(
          "bits a weight of a 4096 × 4000 layer, \(format.rawValue)", source: source,
          published: JSON(bits), ours: JSON(ours), kind: .counted, error: error,
          abs(error) <= 2 ? .holds : .partly,
          reason: "rows are padded to whole blocks and carry a scale"))
    }
    return claims
  }

  // MARK: Speed

  /// Decoding against float16 weights, the paper's own baseline, on the 125M shape.
  private static func speed(threads: Int) throws(QuantError) -> [Claim] {
    var ternary = SyntheticModel.bitNet(.m125)
    ternary.vocabularySize = 4096
    var float = ternary
    float.weightType = .f16
    Console.progress("bitnet: 125M models")
    let models = [
      try load(ternary, as: nil, threads: threads), try load(float, as: nil, threads: threads),
    ]
    var timings = [Timing(), Timing()]
    for round in 0..<6 {
      for (index, model) in models.enumerated() {
        let session = try model.makeSession()
        try session.forward([5, 6, 7, 8], cancellation: Interruption.flag)
        let start = MonotonicClock.nanoseconds()
        for token in 0..<24 {
          try Interruption.check()
          try session.forward(token: Int32(100 + token))
        }
        if round > 0 { timings[index].add(24 / MonotonicClock.seconds(since: start)) }
      }
    }
    let ratio = timings[0].median / timings[1].median
    let most = Double(models[1].weightBytesPerToken) / Double(models[0].weightBytesPerToken)
    return [
      paper.claim(
        "decode against float16 weights, 125M, \(threads) thread(s)",
        source: "\(first), table 5: i7-13700H, 2 threads", published: 2.64, ours: JSON(ratio),
        kind: .measured, error: 100 * (ratio / 2.64 - 1), ratio >= 2.64 ? .holds : .partly,
        reason:
          "their baseline is llama.cpp on another machine; against this package's own float16 "
          + "fewer bytes can give at most \(fixed(most, 2))×",
        command: "quantkernels bench model (of synthesize --bitnet 125M, and --type f16)"),
      paper.claim(
        "the same, most that fewer bytes can give",
        source: "derived: bytes a token of both", published: .null,
        ours: JSON(most),
        kind: .counted, .unscored),
    ]
  }

  // MARK: The GPU kernel

  /// Outputs, inputs, µs on A100-40GB.
  private static let published: [(outputs: Int, inputs: Int, microseconds: Double)] = [
    (2560, 2560, 13.32), (3840, 2560, 14.90), (13824, 2560, 18.75), (2560, 6912, 14.49),
    (3200, 3200, 14.61), (4800, 3200, 13.09), (3200, 10240, 19.64), (20480, 3200, 30.99),
  ]

  /// W2A8 GEMV: modelled beside published times, as a sanity band of a factor of two.
  private static func gpuTimes(threads: Int) throws(QuantError) -> [Claim] {
    let device = DeviceSpec.a100x40
    var claims: [Claim] = []
    for (index, shape) in published.enumerated() {
      Console.progress("bitnet: W2A8 shape \(index + 1) of \(published.count)")
      let product = try SimulatedMatmul.count(
        .w2a8, rows: 1, outputs: shape.outputs, inputs: shape.inputs, groupSize: 128, on: device,
        simulator: WarpSimulator(threads: threads, isCancelled: { Interruption.isRequested }))
      let ours = try product.estimate(LatencyBound()).microseconds
      let error = 100 * (ours / shape.microseconds - 1)
      claims.append(
        paper.claim(
          "W2A8 \(shape.outputs) × \(shape.inputs) on \(device.identifier), µs",
          source: "microsoft/BitNet gpu/README.md", published: JSON(shape.microseconds),
          ours: JSON(ours), kind: .modelled, error: error,
          ours <= 2 * shape.microseconds && shape.microseconds <= 2 * ours ? .holds : .partly,
          reason: "more than a factor of two: so short a product is mostly launch and latency",
          command:
            "quantkernels simulate matmul --device a100-40 --kernel w2a8 --m 1 "
            + "--n \(shape.outputs) --k \(shape.inputs)"))
    }
    return claims
  }
}
