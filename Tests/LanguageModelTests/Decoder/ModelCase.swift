import LanguageModel
import QuantKernels
import Synchronization
import TestSupport
import Testing

/// A synthetic model that tests run over.
struct ModelCase: Sendable, CustomTestStringConvertible {
  let name: String
  let model: SyntheticModel

  var testDescription: String { name }

  init(
    _ name: String, _ architecture: ModelConfiguration.Architecture,
    _ change: (inout SyntheticModel) -> Void = { _ in }
  ) {
    self.name = name
    var model = SyntheticModel(architecture)
    change(&model)
    self.model = model
  }

  /// Made once a case: an unoptimized build takes a while to draw its weights.
  func file() throws -> GGUFFile { try files.file(of: self) }

  func load(
    threads: Int = 2, arithmetic: Arithmetic = .exact, keyValueType: KeyValueType = .f32,
    contextLength: Int? = nil
  ) throws -> LanguageModel {
    var options = LanguageModel.Options()
    options.threads = threads
    options.arithmetic = arithmetic
    options.keyValueType = keyValueType
    options.contextLength = contextLength
    return try LanguageModel(file: try file(), options: options)
  }

  /// Tokens past the control tokens, repeatable.
  func tokens(_ count: Int, seed: UInt64 = 7) -> [Int32] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in .random(in: 3..<Int32(model.vocabularySize), using: &random) }
  }

  /// One of each architecture.
  static let architectures = [
    ModelCase("llama", .llama), ModelCase("qwen2", .qwen2), ModelCase("qwen3", .qwen3),
    ModelCase("gemma3", .gemma3), ModelCase("BitNet b1.58", .bitnetB158),
  ]

  /// What architectures vary in.
  static let variants =
    architectures + [
      ModelCase("llama with biases, a head and mixed types", .llama) {
        $0.hasBiases = true
        $0.tiesHead = false
        $0.weightType = .q4_0
        $0.valueType = .q8_0
      },
      ModelCase("llama 3 frequencies, half of a head rotated", .llama) {
        $0.rotaryDimension = 16
        $0.frequencyDivisors = [1, 1, 1, 2, 3, 5, 8, 8]
        $0.weightType = .f32
      },
      ModelCase("llama, positions divided by 4, as many key heads", .llama) {
        $0.rotaryScaling = .linear(factor: 4)
        $0.keyValueHeadCount = 4
        $0.weightType = .bf16
      },
      ModelCase("qwen2 with YaRN", .qwen2) {
        $0.rotaryScaling = .yarn(.init(factor: 4, originalContext: 64))
        $0.weightType = .f16
      },
      ModelCase("qwen3 with a head", .qwen3) {
        $0.tiesHead = false
        $0.embeddingType = .q4_1
      },
      ModelCase("BitNet with SiLU, I2_S", .bitnet) { $0.weightType = .i2_s },
      ModelCase("BitNet, TQ1_0 and a head of TQ2_0", .bitnet25) {
        $0.weightType = .tq1_0
        $0.tiesHead = false
        $0.embeddingType = .tq2_0
      },
      ModelCase("gemma3 with soft-caps and scaled positions", .gemma3) {
        $0.rotaryScaling = .linear(factor: 8)
        $0.rotaryBase = 1_000_000
        $0.attentionSoftCap = 2
        $0.logitSoftCap = 3
        $0.slidingWindow = 5
      },
    ]
}

private let files = FileStore()

private final class FileStore: Sendable {
  private let files = Mutex<[String: GGUFFile]>([:])

  func file(of model: ModelCase) throws -> GGUFFile {
    try files.withLock { files in
      let key = "\(model.model)"
      if let file = files[key] { return file }
      let file = try GGUFFile(bytes: try model.model.serialized(), name: model.name)
      files[key] = file
      return file
    }
  }
}
