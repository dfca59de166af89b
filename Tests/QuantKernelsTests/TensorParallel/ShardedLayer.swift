import QuantKernels
import TestSupport

/// An attention layer with an output projection, random, and what it must give.
struct ShardedLayer {
  let layer: AttentionShard.Layer
  let positions: Int
  let queries: [Float]
  let keys: [Float]
  let values: [Float]
  let projection: [Float]
  let options: AttentionOptions

  init(
    heads: Int = 8, keyValueHeads: Int = 8, dimension: Int = 8, width: Int = 24,
    positions: Int = 40,
    seed: UInt64 = 5
  ) {
    layer = AttentionShard.Layer(
      heads: heads, keyValueHeads: keyValueHeads, headDimension: dimension, width: width)
    self.positions = positions
    var random = RepeatableRandom(seed: seed)
    func uniform(_ count: Int) -> [Float] {
      // 24 random bits; generic ranges are slow without optimisation.
      (0..<count).map { _ in Float(random.next() >> 40) * 0x1p-23 - 1 }
    }
    queries = uniform(positions * heads * dimension)
    keys = uniform(positions * keyValueHeads * dimension)
    values = uniform(positions * keyValueHeads * dimension)
    projection = uniform(width * heads * dimension)
    options = AttentionOptions(scale: 1 / Float(dimension).squareRoot())
  }

  /// Runs rows `first...` of the layer on ranks and returns what each got.
  func run(
    ranks: Int, first: Int = 0, chunks: [Range<Int>],
    wrap: @escaping @Sendable (ThreadCommunicator) throws -> any Communicator = { $0 }
  ) throws -> [TiledAllReduce.Output] {
    let count = positions - first
    return try ThreadCommunicator.run(ranks: ranks) { communicator in
      let shard = try AttentionShard(
        layer, rank: communicator.rank, ranks: ranks, projection: projection, capacity: positions)
      try shard.append(keys: keys, values: values)
      let own = try shard.ownQueries(of: queries)
      return try TiledAllReduce.run(
        shard, queries: Array(own[(first * shard.columns)...]), count: count, firstPosition: first,
        options: options, chunks: chunks, communicator: wrap(communicator),
        pool: WorkerPool(threads: 1))
    }
  }

  /// Float64 outputs of all positions, and how far float32 may be from them on `ranks` ranks.
  ///
  /// With u = 2⁻²⁴ and K = heads · dimension: an attended element is off by t, which ``AttentionCase``
  /// derives for its kernels: a score of d products is off by (d + 3) u Σ|q||k| scale, a weight by
  /// twice that, and the chain over the keys adds (256 + 40) u, all on Σ w|v|. The projection adds
  /// Σ|w| t; its chain of K/G multiply-adds and the sum over G ranks add (K/G + G) u Σ|w||a|.
  func reference(ranks: Int) -> (values: [Double], tolerance: [Double]) {
    let unit = 0x1p-24
    let dimension = layer.headDimension
    let columns = layer.heads * dimension
    var values: [Double] = []
    var tolerance: [Double] = []
    for position in 0..<positions {
      var attended = [Double](repeating: 0, count: columns)
      var error = attended
      for head in 0..<layer.heads {
        let shared = head / (layer.heads / layer.keyValueHeads)
        var scores: [Double] = []
        var worst = 0.0
        for key in 0...position {
          var sum = 0.0
          var magnitude = 0.0
          for k in 0..<dimension {
            let product =
              Double(queries[(position * layer.heads + head) * dimension + k])
              * Double(keys[(key * layer.keyValueHeads + shared) * dimension + k])
            sum += product
            magnitude += product.magnitude
          }
          scores.append(sum * Double(options.scale))
          worst = max(
            worst,
            (Double(dimension + 3) * magnitude * Double(options.scale) + 2 * scores[key].magnitude)
              * unit)
        }
        let maximum = scores.max() ?? 0
        let weights = scores.map { exponential($0 - maximum) }
        let total = weights.reduce(0, +)
        for k in 0..<dimension {
          var magnitude = 0.0
          for key in 0...position {
            let value =
              Double(self.values[(key * layer.keyValueHeads + shared) * dimension + k])
              * weights[key] / total
            attended[head * dimension + k] += value
            magnitude += value.magnitude
          }
          error[head * dimension + k] = magnitude * (exponential(2 * worst) - 1 + 296 * unit)
        }
      }
      for output in 0..<layer.width {
        var sum = 0.0
        var bound = 0.0
        for column in 0..<columns {
          let weight = Double(projection[output * columns + column])
          sum += weight * attended[column]
          bound +=
            weight.magnitude
            * (error[column] + Double(columns / ranks + ranks) * unit * attended[column].magnitude)
        }
        values.append(sum)
        tolerance.append(bound)
      }
    }
    return (values, tolerance)
  }
}
