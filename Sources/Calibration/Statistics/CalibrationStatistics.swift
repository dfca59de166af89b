import LanguageModel
import QuantKernels

/// What a calibration text says of a model's key and value projections, layer by layer.
struct CalibrationStatistics: Sendable, Equatable {
  /// Of one layer's keys or values.
  struct Projection: Sendable, Equatable {
    /// For each block of heads `Σ g gᵀ` over tokens, g `[block]` the loss's gradient at the outputs.
    var gradients: [Gram]
    /// `Σ (∂loss/∂W)²` over samples, `[keyValueLength × width]`.
    var squares: [Float]
  }

  struct Layer: Sendable, Equatable {
    /// Of the normalized inputs of both projections.
    var inputs: Gram
    var keys: Projection
    var values: Projection

    subscript(kind: LowRankFactors.Kind) -> Projection {
      get { kind == .key ? keys : values }
      set { if kind == .key { keys = newValue } else { values = newValue } }
    }
  }

  let shape: LowRankFactors.Shape
  /// Heads whose gradients are gathered with their products; a group's heads lie in one block.
  let headsPerBlock: Int
  /// Whether gradients are gathered at all.
  let hasGradients: Bool
  var layers: [Layer]
  /// Samples whose inputs, and whose gradients, are in it.
  var samples = 0
  var gradientSamples = 0
  /// Mean loss of the samples with gradients.
  var lossSum = 0.0

  init(shape: LowRankFactors.Shape, headsPerBlock: Int, hasGradients: Bool) {
    self.shape = shape
    self.headsPerBlock = headsPerBlock
    self.hasGradients = hasGradients
    let blocks = hasGradients ? shape.keyValueHeads / headsPerBlock : 0
    let empty = Projection(
      gradients: (0..<blocks).map { _ in Gram(width: headsPerBlock * shape.headDimension) },
      squares: hasGradients
        ? [Float](repeating: 0, count: shape.keyValueWidth * shape.modelWidth) : [])
    layers = (0..<shape.layers).map { _ in
      Layer(inputs: Gram(width: shape.modelWidth), keys: empty, values: empty)
    }
  }

  /// Bytes that the statistics of a shape take, as factors for ``MemoryRequirement``.
  static func memory(
    _ shape: LowRankFactors.Shape, headsPerBlock: Int, hasGradients: Bool
  ) -> [[Int]] {
    let inputs = [[8, shape.layers, shape.modelWidth, shape.modelWidth]]
    guard hasGradients else { return inputs }
    return inputs + [
      [2, 8, shape.layers, shape.keyValueWidth, headsPerBlock * shape.headDimension],
      [2, 4, shape.layers, shape.keyValueWidth, shape.modelWidth],
    ]
  }

  /// Adds the gradients of samples of `length` rows each.
  ///
  /// - Parameters:
  ///   - gradient: `[samples · length × keyValueLength]`, of each sample's mean loss.
  ///   - inputs: `[samples · length × width]`.
  mutating func add(
    _ kind: LowRankFactors.Kind, layer: Int, gradient: UnsafeMutablePointer<Float>,
    inputs: UnsafeMutablePointer<Float>, samples: Int, length: Int
  ) {
    let (outputs, width) = (shape.keyValueWidth, shape.modelWidth)
    let block = headsPerBlock * shape.headDimension
    for index in layers[layer][kind].gradients.indices {
      layers[layer][kind].gradients[index].add(
        gradient + index * block, rows: samples * length, stride: outputs)
    }
    var ofSample = [Float](repeating: 0, count: outputs * width)
    for sample in 0..<samples {
      ofSample.withUnsafeMutableBufferPointer { buffer in
        guard let target = buffer.baseAddress else { return }
        Float.multiply(
          gradient + sample * length * outputs, transposed: true, lda: outputs,
          inputs + sample * length * width, transposed: false, ldb: width, into: target,
          ldc: width, m: outputs, n: width, k: length, alpha: 1, beta: 0)
      }
      layers[layer][kind].squares.withUnsafeMutableBufferPointer { squares in
        for index in squares.indices { squares[index] += ofSample[index] * ofSample[index] }
      }
    }
  }

  /// A group's Fisher score: the mean over its weights of the root mean square gradient, which is
  /// what Palu allocates ranks by.
  func fisherScore(_ kind: LowRankFactors.Kind, layer: Int, rows: Range<Int>) -> Double {
    let squares = layers[layer][kind].squares
    let width = shape.modelWidth
    guard gradientSamples > 0, !squares.isEmpty else { return 0 }
    var sum = 0.0
    for index in rows.lowerBound * width..<rows.upperBound * width {
      sum += (Double(squares[index]) / Double(gradientSamples)).squareRoot()
    }
    return sum / Double(rows.count * width)
  }

  /// The Gram of the loss's gradients at some of the outputs, which lie in one block.
  func gradientGram(_ kind: LowRankFactors.Kind, layer: Int, rows: Range<Int>) -> Gram {
    let block = headsPerBlock * shape.headDimension
    let start = rows.lowerBound / block
    return layers[layer][kind].gradients[start].block(
      rows.lowerBound - start * block..<rows.upperBound - start * block)
  }
}
