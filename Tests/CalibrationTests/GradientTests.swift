import LanguageModel
import QuantKernels
import TestSupport
import Testing

@testable import Calibration

/// The backward pass against finite differences of the forward pass, and that against the decoder that
/// serves.
@Suite struct GradientTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let model: SyntheticModel
    var testDescription: String { name }

    init(
      _ name: String, _ architecture: ModelConfiguration.Architecture,
      _ change: (inout SyntheticModel) -> Void = { _ in }
    ) {
      self.name = name
      var model = SyntheticModel(architecture)
      model.layerCount = 2
      change(&model)
      self.model = model
    }

    func file() throws -> GGUFFile {
      try GGUFFile(bytes: try model.serialized(), name: name)
    }

    func tokens(_ count: Int, seed: UInt64 = 7) -> [Int32] {
      var random = RepeatableRandom(seed: seed)
      return (0..<count).map { _ in .random(in: 3..<Int32(model.vocabularySize), using: &random) }
    }
  }

  static let cases = [
    Case("llama", .llama),
    Case("llama with biases and a head, half of a head rotated", .llama) {
      $0.hasBiases = true
      $0.tiesHead = false
      $0.rotaryDimension = 16
    },
    Case("qwen2 with YaRN", .qwen2) {
      $0.rotaryScaling = .yarn(.init(factor: 4, originalContext: 64))
    },
    Case("qwen3", .qwen3),
    Case("gemma3 with soft-caps and a window", .gemma3) {
      $0.layerCount = 7
      $0.attentionSoftCap = 2
      $0.logitSoftCap = 3
      $0.slidingWindow = 5
    },
    Case("BitNet", .bitnetB158),
  ]

  private func weights(_ c: Case) throws -> DenseWeights {
    let file = try c.file()
    return try DenseWeights(file: file, configuration: try ModelConfiguration(file: file))
  }

  private func dense(
    _ weights: DenseWeights, _ matrix: DenseWeights.Matrix, layer: Int
  ) throws -> [Double] {
    let size = weights.size(of: matrix, layer: layer)
    let buffer = ScalarBuffer<Float>(count: size.rows * size.columns)
    try weights.read(matrix, layer: layer, into: buffer.pointer, pool: WorkerPool(threads: 1))
    return (0..<buffer.count).map { Double(buffer.pointer[$0]) }
  }

  /// Along random directions in the weights of every layer's keys and values: central differences in
  /// float64 with Richardson's extrapolation, whose error is O(h⁴), to 10⁻⁶ relative and so well within
  /// the 10⁻⁴ asked for.
  @Test(arguments: cases)
  func gradientsEqualFiniteDifferences(_ c: Case) throws {
    let weights = try weights(c)
    let tokens = c.tokens(12)
    let pool = WorkerPool(threads: 2)
    let found = try exactGradients(weights, tokens: tokens, pool: pool)
    var random = RepeatableRandom(seed: 9)
    for layer in Set([0, 1, c.model.layerCount - 1]) {
      for (matrix, gradient) in [
        (DenseWeights.Matrix.key, found.keys[layer]), (.value, found.values[layer]),
      ] {
        let values = try dense(weights, matrix, layer: layer)
        for kind in 0..<2 {
          // A random direction, and one element: the largest gradient.
          var direction = random.normals(values.count).map(Double.init)
          if kind == 1 {
            let largest = gradient.values.indices.max {
              abs(gradient.values[$0]) < abs(gradient.values[$1])
            }
            direction = direction.indices.map { $0 == largest ? 1 : 0 }
          }
          func loss(_ step: Double) throws -> Double {
            let moved = zip(values, direction).map { $0 + step * $1 }
            return try exactGradients(
              weights, tokens: tokens, replacing: [layer: [matrix: moved]], pool: pool
            ).loss
          }
          func difference(_ step: Double) throws -> Double {
            (try loss(step) - loss(-step)) / (2 * step)
          }
          let step = kind == 0 ? 2e-4 : 4e-3
          let expected = (4 * (try difference(step)) - (try difference(2 * step))) / 3
          let slope = zip(gradient.values, direction).reduce(0) { $0 + $1.0 * $1.1 }
          #expect(
            abs(slope - expected) <= 1e-6 * abs(expected) + 1e-10,
            "\(matrix) of layer \(layer): \(slope), differences give \(expected)")
        }
      }
    }
  }

  /// The float64 forward pass gives the losses of the decoder that serves, in exact arithmetic: the
  /// same function, with labels one token on.
  @Test(arguments: cases)
  func lossesEqualTheServingDecoders(_ c: Case) throws {
    let tokens = c.tokens(16)
    var options = LanguageModel.Options()
    options.arithmetic = .exact
    options.keyValueType = .f32
    let model = try LanguageModel(file: try c.file(), options: options)
    let session = try model.makeSession()
    var expected: [Double] = []
    let vocabulary = c.model.vocabularySize
    try session.forward(tokens, logits: 0..<tokens.count - 1) { rows, logits in
      for row in rows {
        let values = (0..<vocabulary).map {
          Double(logits[(row - rows.lowerBound) * vocabulary + $0])
        }
        let top = values.max() ?? 0
        let sum = values.reduce(0) { $0 + exponential($1 - top) }
        expected.append(naturalLogarithm(sum) + top - values[Int(tokens[row + 1])])
      }
    }
    let weights = try weights(c)
    let decoder = try DenseDecoder<Double>(
      weights, sequences: 1, length: tokens.count, keepsStreams: false,
      pool: WorkerPool(threads: 2))
    let found = try decoder.losses(of: tokens)
    #expect(found.count == expected.count)
    for (a, b) in zip(found, expected) { #expect(abs(a - b) <= 2e-4) }
  }

  /// float32 gradients of several sequences at once against float64 ones of each alone.
  @Test func float32AgreesWithFloat64() throws {
    let c = Self.cases[0]
    let weights = try weights(c)
    let pool = WorkerPool(threads: 2)
    let sequences = [c.tokens(20, seed: 1), c.tokens(20, seed: 2), c.tokens(20, seed: 3)]
    let decoder = try DenseDecoder<Float>(
      weights, sequences: 3, length: 20, keepsStreams: true, pool: pool)
    let buffers = DenseDecoder<Float>.Gradients(weights.configuration, rows: 60)
    var statistics = CalibrationStatistics(
      shape: LowRankFactors.Shape(weights.configuration), headsPerBlock: 1, hasGradients: true)
    _ = try decoder.gradients(of: sequences.flatMap { $0 }, in: buffers) {
      layer, inputs, keys, values in
      statistics.add(
        .key, layer: layer, gradient: keys, inputs: inputs, samples: 3, length: 20)
      statistics.add(
        .value, layer: layer, gradient: values, inputs: inputs, samples: 3, length: 20)
    }
    statistics.gradientSamples = 3
    let exact = try sequences.map { try exactGradients(weights, tokens: $0, pool: pool) }
    for layer in 0..<2 {
      for kind in LowRankFactors.Kind.allCases {
        let squares = exact.map { kind == .key ? $0.keys[layer] : $0.values[layer] }
        var (error, size) = (0.0, 0.0)
        for index in statistics.layers[layer][kind].squares.indices {
          let expected = squares.reduce(0) { $0 + $1.values[index] * $1.values[index] }
          let found = Double(statistics.layers[layer][kind].squares[index])
          error += (found - expected) * (found - expected)
          size += expected * expected
        }
        #expect((error / size).squareRoot() <= 1e-4)
        // Palu's score: the mean of √(mean g²).
        let headDimension = c.model.headDimension
        let rows = headDimension..<2 * headDimension
        let width = c.model.embeddingLength
        var score = 0.0
        for index in rows.lowerBound * width..<rows.upperBound * width {
          let sum = squares.reduce(0) { $0 + $1.values[index] * $1.values[index] }
          score += (sum / 3).squareRoot()
        }
        score /= Double(rows.count * width)
        let found = statistics.fisherScore(kind, layer: layer, rows: rows)
        #expect(abs(found - score) <= 1e-4 * score)
      }
    }
  }

  @Test func refusesTokensAndLengths() throws {
    let weights = try weights(Self.cases[0])
    let pool = WorkerPool(threads: 1)
    for length in [0, 1, -1, 257, Int.max] {
      #expect(throws: QuantError.self) {
        try DenseDecoder<Float>(
          weights, sequences: 1, length: length, keepsStreams: false, pool: pool)
      }
    }
    let decoder = try DenseDecoder<Float>(
      weights, sequences: 1, length: 4, keepsStreams: false, pool: pool)
    for tokens in [[], [1, 2, 3], [1, 2, 3, -1], [1, 2, 3, 9999]] as [[Int32]] {
      #expect(throws: QuantError.self) { try decoder.losses(of: tokens) }
    }
    let flag = CancellationFlag()
    flag.cancel()
    #expect(throws: QuantError.self) {
      try decoder.losses(of: [1, 2, 3, 4], cancellation: flag)
    }
  }
}
