import DeviceModel

/// Matrices times one vector each, `y[set] = W[set] · x[set]`: the projections of a decode step. Eight
/// warps a block, a row a warp at a time, sums in float32 over lanes.
struct DecodeProjection: WarpKernel {
  struct Registers: Sendable {}

  let name: String
  let weights: DecodeOperand
  /// Matrices: query heads of one key-value head share one.
  let vectorsPerSet: Int
  /// `[vectors][pitch]` binary16, of at least the weights' columns a vector.
  let input: GlobalBuffer
  let inputPitch: Int
  /// `[vectors][rows]` binary16, rows padded to 8.
  let output: GlobalBuffer

  private static let warps = 8
  /// Rows of a block.
  private static let rows = 32

  init(
    _ name: String, weights: DecodeOperand, vectorsPerSet: Int = 1, input: GlobalBuffer? = nil,
    inputPitch: Int? = nil
  ) throws(QuantError) {
    self.name = name
    self.weights = weights
    self.vectorsPerSet = vectorsPerSet
    let vectors = weights.sets * vectorsPerSet
    let inputPitch = inputPitch ?? weights.pitch
    self.inputPitch = inputPitch
    self.input =
      if let input { input } else {
        try QuantError.translating {
          try GlobalBuffer("\(name) input", byteCount: 2 * vectors * inputPitch)
        }
      }
    let pitch = (weights.rows + 7) / 8 * 8
    output = try QuantError.translating {
      try GlobalBuffer("\(name) output", byteCount: 2 * vectors * pitch)
    }
    guard weights.pitch * 2 <= 48 << 10 else {
      throw QuantError(
        .unsupported, name, "\(weights.columns) inputs", remedy: "use at most 24,576")
    }
  }

  var sites: [String] { ["x load", "x store", "W load", "x read", "bias load", "y store"] }
  var outputPitch: Int { (weights.rows + 7) / 8 * 8 }
  private var rowTiles: Int { (weights.rows + Self.rows - 1) / Self.rows }
  var blocks: Int { weights.sets * vectorsPerSet * rowTiles }
  var warpsPerBlock: Int { Self.warps }
  var sharedBytesPerBlock: Int { steps * 512 }
  /// 256 columns.
  private var steps: Int { (weights.pitch + 255) / 256 }
  func makeRegisters() -> Registers { Registers() }

  /// Blocks differ in their last rows and by where in a line rows start.
  var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let isLast: Bool
      let lines: [Int]
    }
    var tally = ClassTally<Key>()
    for block in 0..<blocks {
      let vector = block / rowTiles
      tally.add(
        Key(
          isLast: block % rowTiles == rowTiles - 1,
          lines: [
            weights.offset(set: vector / vectorsPerSet, row: 0) % 128,
            vector * inputPitch * 2 % 128,
            vector * outputPitch * 2 % 128,
          ]),
        representative: block, count: 1)
    }
    return tally.list
  }

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let vector = block.index / rowTiles
    let set = vector / vectorsPerSet
    let firstRow = block.index % rowTiles * Self.rows
    // The vector's own elements; zeros where the weights' rows are padded further.
    let units = min(inputPitch, (weights.columns + 7) / 8 * 8) / 8
    try block.eachWarp { (warp, _) throws(DeviceError) in
      for round in 0..<(steps * 32 + 32 * Self.warps - 1) / (32 * Self.warps) {
        let first = (round * Self.warps + warp.index) * 32
        let words: Registers4 = try warp.loadGlobal(
          from: input,
          at: .each {
            UInt32(truncatingIfNeeded: 2 * vector * inputPitch + 16 * (first + Int($0)))
          },
          mask: .first(units - first), site: 0)
        try warp.storeShared(
          words, at: .each { UInt32(truncatingIfNeeded: 16 * (first + Int($0))) },
          mask: .first(steps * 32 - first), site: 1)
      }
    }
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      for round in 0..<Self.rows / Self.warps {
        let row = firstRow + round * Self.warps + warp.index
        guard row < weights.rows else { continue }
        var sum = Lanes<Float>()
        for step in 0..<steps {
          let mask = LaneMask.first((weights.pitch - step * 256) / 8)
          let base = weights.offset(set: set, row: row) + step * 512
          let w: Registers4 = try warp.loadGlobal(
            from: weights.buffer, at: .each { UInt32(truncatingIfNeeded: base) &+ 16 * $0 },
            mask: mask, site: 2)
          let x: Registers4 = try warp.loadShared(
            at: .each { UInt32(truncatingIfNeeded: step * 512) &+ 16 * $0 }, mask: mask, site: 3)
          for word in 0..<4 {
            let a = Half2.unpack(w[word])
            let b = Half2.unpack(x[word])
            for lane in 0..<32 {
              sum[lane] += a.low[lane] * b.low[lane] + a.high[lane] * b.high[lane]
            }
          }
          warp.count(.conversion, 16)
          warp.count(.float, 8)
        }
        sum = LaneMath.reduce(sum, over: [1, 2, 4, 8, 16], &warp) { $0 + $1 }
        if let bias = weights.bias {
          let words: Lanes<UInt32> = try warp.loadGlobal(
            from: bias,
            at: Lanes(
              repeating: UInt32(truncatingIfNeeded: 4 * (set * weights.paddedRows + row))),
            mask: .first(1), site: 4)
          sum = sum.plus(words.asFloats)
          warp.count(.float, 1)
        }
        try warp.storeGlobal(
          Half2.pack(low: sum, high: sum), bytes: 2, to: output,
          at: Lanes(repeating: UInt32(truncatingIfNeeded: 2 * (vector * outputPitch + row))),
          mask: .first(1), site: 5)
        warp.count(.conversion, 1)
        warp.count(.control, steps)
      }
    }
  }
}

/// A copy of a whole cache, as a concatenation with the new token makes it.
struct CacheCopy: WarpKernel {
  struct Registers: Sendable {}

  let name: String
  let from: GlobalBuffer
  let to: GlobalBuffer
  private static let warps = 8
  private static let rounds = 4

  init(_ name: String, of from: GlobalBuffer) throws(QuantError) {
    self.name = name
    self.from = from
    to = try QuantError.translating { try GlobalBuffer(name, byteCount: from.byteCount) }
  }

  var sites: [String] { ["cache load", "cache store"] }
  private var units: Int { from.byteCount / 16 }
  private var unitsPerBlock: Int { 32 * Self.warps * Self.rounds }
  var blocks: Int { (units + unitsPerBlock - 1) / unitsPerBlock }
  var warpsPerBlock: Int { Self.warps }
  var sharedBytesPerBlock: Int { 0 }
  func makeRegisters() -> Registers { Registers() }
  var blockClasses: [BlockClass] {
    let whole = units / unitsPerBlock
    var list = whole > 0 ? [BlockClass(representative: 0, count: whole)] : []
    if whole < blocks { list.append(BlockClass(representative: whole, count: 1)) }
    return list
  }

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let index = block.index
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      for round in 0..<Self.rounds {
        let first = ((index * Self.rounds + round) * Self.warps + warp.index) * 32
        let mask = LaneMask.first(units - first)
        let at = Lanes<UInt32>.each { UInt32(truncatingIfNeeded: 16 * (first + Int($0))) }
        let words: Registers4 = try warp.loadGlobal(from: from, at: at, mask: mask, site: 0)
        try warp.storeGlobal(words, to: to, at: at, mask: mask, site: 1)
      }
      warp.count(.integer, 2 * Self.rounds)
    }
  }
}
