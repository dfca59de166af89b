import LanguageModel
import QuantKernels
import TestSupport
import Testing

/// Models of ternary weights: one network in every file type and every format of the kernels.
@Suite struct TernaryModelTests {
  private static func network(_ type: GGMLType) -> ModelCase {
    ModelCase("BitNet, \(type.name)", .bitnetB158) {
      $0.weightType = type
      $0.vocabularySize = 2048
      $0.layerCount = 3
      $0.embeddingType = .q8_0
    }
  }

  private func load(
    _ model: ModelCase, as format: PackedTernary.Format? = nil, threads: Int = 2
  ) throws -> LanguageModel {
    var options = LanguageModel.Options()
    options.threads = threads
    options.ternaryFormat = format
    return try LanguageModel(file: try model.file(), options: options)
  }

  /// The paper's exact-match test (arXiv 2410.16144, table 7), small: 20 prompts of one network.
  @Test func everyLosslessFormatGivesTheSameBits() throws {
    let first = Self.network(.i2_s)
    var names: [String] = []
    let lossy = PackedTernary.Format.allCases.filter { !$0.isLossless }.map(\.rawValue)
    var models = [try load(first, as: .twoBit)]
    for format in PackedTernary.Format.allCases where format != .twoBit {
      models.append(try load(first, as: format, threads: format == .fiveTrit ? 1 : 2))
      names.append(format.rawValue)
    }
    for type in [GGMLType.tq1_0, .tq2_0] {
      models.append(try load(Self.network(type)))
      names.append(type.name)
    }
    var match = try ExactMatch(models)
    for seed in 0..<20 {
      try match.add(prompt: first.tokens(4 + seed, seed: UInt64(seed)), tokens: 24)
    }
    #expect(match.prompts == 20 && match.tokens == 480)
    #expect(match.meanEntropy > 3, "\(match.meanEntropy) bits")
    #expect(match.distinctTokens >= 50)
    for (name, comparison) in zip(names, match.comparisons) {
      if lossy.contains(name) {
        print(
          "\(name), lossy: \(comparison.matchedPrompts) of \(match.prompts) prompts matched")
        #expect(comparison.equalSteps < comparison.steps, "\(name) cannot be exact")
        continue
      }
      #expect(comparison.matchedPrompts == match.prompts, "\(name)")
      #expect(comparison.equalSteps == comparison.steps && comparison.steps == 480, "\(name)")
    }
  }

  /// A batch takes the matrix kernels, a step those of one row.
  @Test(arguments: PackedTernary.Format.allCases)
  func promptsAndStepsGiveTheSameBits(_ format: PackedTernary.Format) throws {
    let model = Self.network(.i2_s)
    let tokens = model.tokens(19)
    let together = try load(model, as: format).makeSession()
    try together.forward(tokens)
    let apart = try load(model, as: format, threads: 1).makeSession()
    for token in tokens { try apart.forward(token: token) }
    #expect(Array(together.logits) == Array(apart.logits))
  }

  @Test func theChoiceIsReported() throws {
    let chosen = try #require(try load(Self.network(.i2_s)).ternary)
    #expect(chosen.format == .twoBit && chosen.reason.contains("cache"))
    let named = try #require(try load(Self.network(.i2_s), as: .lookupTriples).ternary)
    #expect(named.format == .lookupTriples)
    #expect(try ModelCase.architectures[0].load().ternary == nil)
  }

  /// TQ2_0 of weights that are not ternary has blocks of different scales: int4 kernels take it.
  @Test func roundedModelsOfOtherWeightsRunToo() throws {
    let model = ModelCase("llama in TQ2_0", .llama) {
      $0.embeddingLength = 256
      $0.feedForwardLength = 512
      $0.headDimension = 64
      $0.weightType = .tq2_0
    }
    let session = try model.load(arithmetic: .fast).makeSession()
    try session.forward(model.tokens(5))
    #expect(session.logits.allSatisfy { $0.isFinite })
  }

  @Test func scaleTensorsMultiplyTheirMatrix() throws {
    let source = Self.network(.tq2_0)
    let plain = try load(source).makeSession()
    let file = try source.file()
    func copy(scale: Float, on name: String) throws -> GGUFFile {
      var writer = GGUFWriter()
      writer.copyMetadata(from: file.metadata)
      for tensor in file.tensors { try writer.addTensor(copying: tensor, from: file) }
      try writer.addTensor(
        name, type: .f32, dimensions: [1],
        bytes: withUnsafeBytes(of: scale.bitPattern.littleEndian) { Array($0) })
      return try GGUFFile(bytes: try writer.serialized(), name: "scaled")
    }
    let tokens = source.tokens(6)
    try plain.forward(tokens)
    let one = try LanguageModel(file: try copy(scale: 1, on: "blk.1.ffn_down.scale")).makeSession()
    try one.forward(tokens)
    #expect(Array(one.logits) == Array(plain.logits))
    let two = try LanguageModel(file: try copy(scale: 2, on: "blk.1.ffn_down.scale")).makeSession()
    try two.forward(tokens)
    #expect(Array(two.logits) != Array(plain.logits))
    let error = #expect(throws: QuantError.self) {
      try LanguageModel(file: try copy(scale: .nan, on: "blk.1.ffn_down.scale"))
    }
    #expect(error?.code == .invalidData)
  }

  /// Code 3, and scales that are no numbers, are found when the model is loaded.
  @Test func damagedWeightsAreRefused() throws {
    for type in [GGMLType.i2_s, .tq2_0] {
      let source = try Self.network(type).file()
      let tensor = try #require(source.tensor(named: "blk.0.attn_q.weight"))
      var damages = [(offset: 5, byte: UInt8(0xFF))]
      // The exponent of I2_S's scale: infinity.
      if type == .i2_s { damages.append((tensor.byteCount - 32 + 3, 0x7F)) }
      for damage in damages {
        var bytes = Array(source.bytes(of: tensor))
        bytes[damage.offset] = damage.byte
        if damage.byte == 0x7F { bytes[damage.offset - 1] = 0x80 }
        var writer = GGUFWriter()
        writer.copyMetadata(from: source.metadata)
        for other in source.tensors {
          if other.name == tensor.name {
            try writer.addTensor(
              tensor.name, type: type, dimensions: tensor.dimensions, bytes: bytes)
          } else {
            try writer.addTensor(copying: other, from: source)
          }
        }
        let file = try GGUFFile(bytes: try writer.serialized(), name: "damaged")
        let error = #expect(throws: QuantError.self) { try LanguageModel(file: file) }
        #expect(error?.code == .invalidData && error?.subject.contains("attn_q") == true)
      }
    }
  }

  /// The order of I2_S is the caller's to name: another one is another network.
  @Test func theOrderOfCodesIsAnOption() throws {
    let model = Self.network(.i2_s)
    var logits: [[Float]] = []
    for order in I2SOrder.allCases {
      var options = LanguageModel.Options()
      options.i2sOrder = order
      let session = try LanguageModel(file: try model.file(), options: options).makeSession()
      try session.forward(model.tokens(6))
      logits.append(Array(session.logits))
    }
    #expect(logits[0] != logits[1] && logits[1] != logits[2] && logits[0] != logits[2])
  }
}
