import QuantKernels
import TestSupport

/// Random queries, keys and values, the cache that holds them, and a plain float64 attention over
/// them.
struct AttentionCase {
  let heads: Int
  let keyValueHeads: Int
  let dimension: Int
  let positions: Int
  let type: KeyValueType
  let options: AttentionOptions
  let queries: [Float]
  let keys: [Float]
  let values: [Float]

  init(
    heads: Int, keyValueHeads: Int, dimension: Int, positions: Int, type: KeyValueType = .f32,
    window: Int? = nil, softCap: Float? = nil, products: AttentionOptions.Products = .float32,
    seed: UInt64 = 1
  ) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.dimension = dimension
    self.positions = positions
    self.type = type
    options = AttentionOptions(
      scale: 1 / Float(dimension).squareRoot(), window: window, softCap: softCap,
      products: products)
    var random = RepeatableRandom(seed: seed)
    func uniform(_ count: Int, _ bound: Float) -> [Float] {
      (0..<count).map { _ in
        // 24 random bits; generic ranges are slow without optimisation.
        (Float(random.next() >> 40) * 0x1p-23 - 1) * bound
      }
    }
    queries = uniform(positions * heads * dimension, 4)
    keys = uniform(positions * keyValueHeads * dimension, 2)
    values = uniform(positions * keyValueHeads * dimension, 1)
  }

  func cache(
    capacity: Int? = nil, count: Int? = nil, instructionSet: InstructionSet = .best
  ) throws -> KeyValueCache {
    let cache = try KeyValueCache(
      type: type, keyValueHeads: keyValueHeads, headDimension: dimension,
      capacity: capacity ?? positions, instructionSet: instructionSet)
    try cache.append(keys: keys, values: values, count: count ?? positions)
    return cache
  }

  /// The output rows of `range`, in one call.
  func run(
    _ range: Range<Int>, cache: KeyValueCache, workspace: AttentionWorkspace, pool: WorkerPool
  ) throws -> [Float] {
    let width = heads * dimension
    var output = [Float](repeating: .nan, count: range.count * width)
    try queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try Attention.run(
          queries: UnsafeBufferPointer(
            rebasing: queries[range.lowerBound * width..<range.upperBound * width]),
          heads: heads, count: range.count, firstPosition: range.lowerBound, cache: cache,
          options: options, output: output, workspace: workspace, pool: pool)
      }
    }
    return output
  }

  /// What row `position` must be, and how far rounding may take the kernels from it.
  ///
  /// With u = 2⁻²⁴: a score of d products, after a rounded factor, is off by e ≤ (d + 3) u Σ|q||k|
  /// scale, and its distance to the maximum, at most 2 max|s|, rounds once more; a soft-cap adds 4
  /// u cap. Both the weight and the sum it is divided by are then off by a factor exp(±e), so a
  /// weight by exp(2e). The output's chain, the sum, the merges and the exponentials (1 ulp each)
  /// add (256 + 4 · partitions + 40) u. All of it weighs on Σ w|v|.
  func reference(_ position: Int) -> (output: [Double], tolerance: [Double]) {
    let unit = 0x1p-24
    var output = [Double](repeating: 0, count: heads * dimension)
    var tolerance = output
    let oldest = options.window.map { max(0, position - $0 + 1) } ?? 0
    let visible = oldest...position
    for head in 0..<heads {
      let shared = head / (heads / keyValueHeads)
      var scores: [Double] = []
      var errors: [Double] = []
      for key in visible {
        var sum = 0.0
        var magnitude = 0.0
        for k in 0..<dimension {
          let product =
            Double(queries[(position * heads + head) * dimension + k])
            * Double(stored(keys[(key * keyValueHeads + shared) * dimension + k]))
          sum += product
          magnitude += product.magnitude
        }
        var score = sum * Double(options.scale)
        var error = Double(dimension + 3) * unit * magnitude * Double(options.scale)
        if let cap = options.softCap {
          score = Double(cap) * hyperbolicTangent(score / Double(cap))
          error += 4 * unit * Double(cap)
        }
        scores.append(score)
        errors.append(error + 2 * unit * score.magnitude)
      }
      let maximum = scores.max() ?? 0
      let weights = scores.map { exponential($0 - maximum) }
      let sum = weights.reduce(0, +)
      let error = 2 * (errors.max() ?? 0)
      let partitions = Double(positions / 256 + 1)
      let relative = exponential(error) - 1 + (256 + 4 * partitions + 40) * unit
      for k in 0..<dimension {
        var total = 0.0
        var magnitude = 0.0
        for (weight, key) in zip(weights, visible) {
          let value = Double(stored(values[(key * keyValueHeads + shared) * dimension + k]))
          total += weight / sum * value
          magnitude += weight / sum * value.magnitude
        }
        output[head * dimension + k] = total
        tolerance[head * dimension + k] = magnitude * relative
      }
    }
    return (output, tolerance)
  }

  /// A number as the cache keeps it.
  private func stored(_ x: Float) -> Float {
    switch type {
    case .f16: HalfPrecision.float(fromHalf: HalfPrecision.half(x))
    case .bf16: Float(bitPattern: UInt32(HalfPrecision.brain(x)) << 16)
    default: x
    }
  }
}
