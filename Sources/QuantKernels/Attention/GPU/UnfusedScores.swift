import DeviceModel

/// The S_q × S_k scores of every head in device memory, binary16: what fusion does without.
struct UnfusedScores: Sendable {
  let buffer: GlobalBuffer
  /// Elements from row to row: the keys up to a multiple of 64, so that rows start a 128-byte line.
  let pitch: Int
  private let rows: Int
  private let isStrip: Bool

  /// - Parameter strip: room for one tile of rows alone, where every tile of every head is written
  ///   and read, for runs that only count.
  /// - Throws: ``QuantError`` when they are past 4 GiB.
  init(_ shape: DeviceAttentionShape, strip: Bool) throws(QuantError) {
    let pitch = (shape.keyLength + 63) / 64 * 64
    self.pitch = pitch
    rows = shape.queryLength
    isStrip = strip
    let held = strip ? min(128, shape.queryLength) : shape.heads * shape.queryLength
    let (bytes, overflows) = (held * 2).multipliedReportingOverflow(by: pitch)
    guard !overflows, bytes <= Int(UInt32.max) else {
      throw QuantError(
        .unsupported, "unfused attention", "\(shape.heads) heads of \(rows) × \(pitch) scores",
        remedy: "they pass 4 GiB of device memory; count instead of running, or use a fused kernel"
      )
    }
    buffer = try QuantError.translating { try GlobalBuffer("scores", byteCount: bytes) }
  }

  /// Bytes before a row, which starts a tile of rows or a block of the softmax.
  func offset(head: Int, row: Int) -> Int {
    isStrip ? 0 : (head * rows + row) * pitch * 2
  }

  /// Scores that a warp reads or writes of a row at once, 8 a lane.
  static let keysPerStep = 256
  /// Steps of a row.
  var steps: Int { (pitch + Self.keysPerStep - 1) / Self.keysPerStep }

  /// Reads a step of the row that starts at byte `start`.
  func load(
    _ step: Int, _ start: Int, site: Int, _ warp: inout Warp
  ) throws(DeviceError) -> Registers4 {
    try warp.loadGlobal(from: buffer, at: addresses(step, start), mask: mask(step), site: site)
  }

  /// Writes it.
  func store(
    _ words: Registers4, _ step: Int, _ start: Int, site: Int, _ warp: inout Warp
  ) throws(DeviceError) {
    try warp.storeGlobal(words, to: buffer, at: addresses(step, start), mask: mask(step), site: site)
  }

  private func addresses(_ step: Int, _ start: Int) -> Lanes<UInt32> {
    .each { UInt32(truncatingIfNeeded: start + step * Self.keysPerStep * 2) &+ $0 * 16 }
  }

  private func mask(_ step: Int) -> LaneMask { .first((pitch - step * Self.keysPerStep) / 8) }
}

/// The softmax between the two products: a warp a row, S in, P out in its place, in two passes.
///
/// The first pass keeps a running maximum and sum, the second writes exp(s − m) / l. Up to 1024 keys a
/// row stays in registers and is read once. Hidden keys are known by their number and cost no mask.
struct UnfusedSoftmax: RepeatingKernel {
  struct Registers: Sendable {}

  let shape: DeviceAttentionShape
  let scores: UnfusedScores
  let buffers: AttentionBuffers
  var repeatLimit: Int?
  var weighsRepeats = false

  var name: String { "unfused softmax" }
  var sites: [String] { ["S load", "S load again", "P store"] }
  var blocks: Int { shape.heads * rowTiles }
  var warpsPerBlock: Int { 4 }
  var sharedBytesPerBlock: Int { 0 }
  private var rowTiles: Int { (shape.queryLength + 3) / 4 }
  private var steps: Int { scores.steps }
  private var staysInRegisters: Bool { steps <= 4 }

  func makeRegisters() -> Registers { Registers() }

  var blockClasses: [BlockClass] {
    let weight = weighsRepeats ? max(0, steps - 2) : 1
    let tiles = shape.heads * rowTiles
    var list: [BlockClass] = []
    // Tiles of a head's four rows, and the last, which may have fewer.
    for (representative, count) in [
      (0, tiles - shape.heads), (rowTiles - 1, shape.heads),
    ] where count * weight > 0 {
      list.append(BlockClass(representative: representative, count: count * weight))
    }
    return list
  }

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let head = block.index / rowTiles
    let tile = block.index % rowTiles
    let order = Array(max(0, steps - min(steps, repeatLimit ?? steps))..<steps)
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      let row = tile * 4 + warp.index
      guard row < shape.queryLength else { return }
      let start = scores.offset(head: head, row: tile * 4) + warp.index * scores.pitch * 2
      let visible = shape.visibleKeys(row: row)
      var top = Lanes<Float>(repeating: -.infinity)
      var sum = Lanes<Float>()
      var kept: [Registers4] = []
      for step in order {
        let words = try scores.load(step, start, site: 0, &warp)
        if staysInRegisters { kept.append(words) }
        for word in 0..<4 {
          let pair = Half2.unpack(words[word])
          for (half, values) in [pair.low, pair.high].enumerated() {
            for lane in 0..<32 where step * 256 + lane * 8 + 2 * word + half < visible {
              let value = values[lane]
              let next = LaneMath.larger(top[lane], value)
              let base: Float = next == -.infinity ? 0 : next
              sum[lane] =
                sum[lane] * LaneMath.exp2((top[lane] - base) * 1.442_695_04)
                + LaneMath.exp2((value - base) * 1.442_695_04)
              top[lane] = next
            }
          }
        }
      }
      let whole = LaneMath.reduce(top, over: [1, 2, 4, 8, 16], &warp, LaneMath.larger)
      let base = LaneMath.zip(whole, whole) { value, _ in value == -.infinity ? 0 : value }
      let part = LaneMath.zip(sum, LaneMath.zip(top, base) { $0 - $1 }) {
        $0 == 0 ? 0 : $0 * LaneMath.exp2($1 * 1.442_695_04)
      }
      let total = LaneMath.reduce(part, over: [1, 2, 4, 8, 16], &warp) { $0 + $1 }
      for (number, step) in order.enumerated() {
        let words = staysInRegisters ? kept[number] : try scores.load(step, start, site: 1, &warp)
        var out = Registers4()
        for word in 0..<4 {
          let pair = Half2.unpack(words[word])
          var parts = [pair.low, pair.high]
          for half in 0..<2 {
            for lane in 0..<32 {
              let isVisible = step * 256 + lane * 8 + 2 * word + half < visible
              let p = LaneMath.exp2((parts[half][lane] - base[lane]) * 1.442_695_04)
              parts[half][lane] = isVisible && total[lane] != 0 ? p / total[lane] : 0
            }
          }
          out[word] = Half2.pack(low: parts[0], high: parts[1])
        }
        try scores.store(out, step, start, site: 2, &warp)
      }
      // A score: to float32; maximum, two multiply-adds and two exponentials; then one of each, a
      // product and the way back.
      let count = order.count
      warp.count(.conversion, count * (staysInRegisters ? 16 : 24))
      warp.count(.float, count * 8 * 6)
      warp.count(.special, count * 8 * 3)
      warp.count(.integer, count * (shape.isCausal ? 32 : 4))
      warp.count(.control, 2 * count)
    }
  }
}

extension UnfusedSoftmax: AttentionKernel {
  /// One step: everything a row needs is under way at once.
  func launch(on device: DeviceSpec) -> Launch {
    let bytes = shape.heads * shape.queryLength * scores.pitch * 2
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: 4,
      registersPerThread: Sourced(48, .assumed("a row of up to 1024 in 16, states and addresses")),
      sharedBytesPerBlock: 0, stepsPerBlock: 1,
      chain: [.globalLoad(rounds: staysInRegisters ? 1 : 2)],
      distinctBytes: bytes * 2, missShare: Double(bytes) < 0.5 * device.l2Bytes.value ? 0 : 1)
  }
}
