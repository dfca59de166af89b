import LanguageModel
import QuantKernels
import TestSupport
import Testing

@testable import Calibration

/// The projections of the model that `make model` fetches.
@Suite struct RealMatricesTests {
  /// The latents of all heads together err no more than as many of each head: J ≤ M, by the inputs
  /// that a text gives the layers.
  @Test(.enabled(if: FetchedModel.path != nil, "no model; `make model` fetches it"))
  func largerGroupsErrLess() throws {
    let calibrator = try Calibrator(
      model: try GGUFFile(path: try #require(FetchedModel.path)), pool: WorkerPool(threads: 2))
    var reading = Calibrator.Reading()
    reading.context = 256
    reading.samples = 3
    reading.gradientSamples = 0
    var random = RepeatableRandom(seed: 23)
    let words = [
      "the ", "Fluss ", "runs ", "on, ", "et ", "a ", "stone. ", "42 ", "in\n", "it (", "日本 ",
    ]
    let text = (0..<3000).flatMap { _ in Array((words.randomElement(using: &random) ?? "").utf8) }
    try calibrator.read(text: text, reading)
    let statistics = try #require(calibrator.statistics)
    let shape = calibrator.shape
    for layer in [0, 14, 29] {
      let inputs = try Whitening(statistics.layers[layer].inputs)
      for kind in [DenseWeights.Matrix.key, .value] {
        var floats = [Float](repeating: 0, count: shape.keyValueWidth * shape.modelWidth)
        try floats.withUnsafeMutableBufferPointer {
          try calibrator.weights.read(
            kind, layer: layer, into: $0.baseAddress!, pool: WorkerPool(threads: 1))
        }
        let weights = Matrix(
          rows: shape.keyValueWidth, columns: shape.modelWidth, values: floats.map(Double.init))
        // Energies of the groups of `size` heads.
        func energies(_ size: Int) throws -> [[Double]] {
          try (0..<shape.keyValueHeads / size).map { group in
            let rows = size * shape.headDimension
            return try WhitenedDecomposition(
              weights: weights.selecting(rows: group * rows..<(group + 1) * rows), inputs: inputs,
              subject: "test"
            ).energies
          }
        }
        let together = try energies(shape.keyValueHeads)[0]
        let apart = try energies(1)
        let whole = together.reduce(0, +)
        for rank in 1...shape.headDimension {
          let joint = together[(rank * shape.keyValueHeads)...].reduce(0, +)
          let separate = apart.reduce(0) { $0 + $1[rank...].reduce(0, +) }
          #expect(joint <= separate + 1e-10 * whole, "layer \(layer), \(kind), rank \(rank)")
        }
        // They share something, or nothing was tested.
        let half = shape.headDimension / 2
        #expect(
          together[(half * shape.keyValueHeads)...].reduce(0, +)
            < 0.95 * apart.reduce(0) { $0 + $1[half...].reduce(0, +) })
      }
    }
  }
}
