import DeviceModel

/// The softmax of a decode step in place: a block of 32 warps a row, which reads it twice.
///
/// The first pass keeps each lane's maximum and sum, shared memory gathers the warps', the second
/// writes exp(s − m) / l, and zeros up to the row's pitch.
struct DecodeSoftmax: WarpKernel {
  struct Registers: Sendable {
    var top = Lanes<Float>(repeating: -.infinity)
    var sum = Lanes<Float>()
  }

  let scores: UnfusedScores
  let heads: Int
  let keys: Int

  var name: String { "softmax" }
  var sites: [String] { ["S load", "state store", "state load", "S load again", "P store"] }
  var blocks: Int { heads }
  /// As many as the row has steps for.
  var warpsPerBlock: Int { min(32, steps) }
  var sharedBytesPerBlock: Int { 8 * 32 }
  private var steps: Int { scores.steps }
  func makeRegisters() -> Registers { Registers() }
  var blockClasses: [BlockClass] { [BlockClass(representative: 0, count: heads)] }

  private static let log2E: Float = 1.442_695_04

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let start = scores.offset(head: block.index, row: 0)
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      var count = 0
      for step in stride(from: warp.index, to: steps, by: warpsPerBlock) {
        count += 1
        let words = try scores.load(step, start, site: 0, &warp)
        for word in 0..<4 {
          let pair = Half2.unpack(words[word])
          for (half, values) in [pair.low, pair.high].enumerated() {
            for lane in 0..<32 where step * 256 + lane * 8 + 2 * word + half < keys {
              // A NaN score has to reach the result: the comparison below would lose it.
              let next =
                values[lane].isNaN ? .nan : LaneMath.larger(registers.top[lane], values[lane])
              if registers.top[lane].isNaN || next.isNaN {
                registers.top[lane] = .nan
                continue
              }
              let base: Float = next == -.infinity ? 0 : next
              registers.sum[lane] =
                registers.sum[lane] * LaneMath.exp2((registers.top[lane] - base) * Self.log2E)
                + LaneMath.exp2((values[lane] - base) * Self.log2E)
              registers.top[lane] = next
            }
          }
        }
      }
      warp.count(.conversion, 8 * count)
      warp.count(.float, 8 * 5 * count)
      warp.count(.special, 8 * 2 * count)
      warp.count(.control, count)
      let state = gather(registers.top, registers.sum, &warp)
      registers.top = state.top
      registers.sum = state.sum
      try warp.storeShared(
        Registers2(state.top.asWords, state.sum.asWords),
        at: Lanes(repeating: UInt32(8 * warp.index)), mask: .first(1), site: 1)
    }
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      let states: Registers2 = try warp.loadShared(
        at: .each { 8 * min($0, UInt32(warpsPerBlock - 1)) }, site: 2)
      var top = states.r0.asFloats
      var sum = states.r1.asFloats
      for lane in warpsPerBlock..<max(32, warpsPerBlock) {
        top[lane] = -.infinity
        sum[lane] = 0
      }
      let whole = gather(top, sum, &warp)
      var count = 0
      for step in stride(from: warp.index, to: steps, by: warpsPerBlock) {
        count += 1
        let words = try scores.load(step, start, site: 3, &warp)
        var out = Registers4()
        for word in 0..<4 {
          let pair = Half2.unpack(words[word])
          var parts = [pair.low, pair.high]
          for half in 0..<2 {
            for lane in 0..<32 {
              let isThere = step * 256 + lane * 8 + 2 * word + half < keys
              let p = LaneMath.exp2((parts[half][lane] - whole.top[lane]) * Self.log2E)
              parts[half][lane] = isThere ? p / whole.sum[lane] : 0
            }
          }
          out[word] = Half2.pack(low: parts[0], high: parts[1])
        }
        try scores.store(out, step, start, site: 4, &warp)
      }
      warp.count(.conversion, 12 * count)
      warp.count(.float, 8 * 2 * count)
      warp.count(.special, 8 * count)
      warp.count(.control, count)
    }
  }

  /// Maximum and sum over all lanes, in every lane.
  private func gather(
    _ top: Lanes<Float>, _ sum: Lanes<Float>, _ warp: inout Warp
  ) -> (top: Lanes<Float>, sum: Lanes<Float>) {
    let distances = [1, 2, 4, 8, 16]
    let whole = LaneMath.reduce(top, over: distances, &warp) {
      $0.isNaN || $1.isNaN ? .nan : max($0, $1)
    }
    let base = LaneMath.zip(whole, whole) { value, _ in value == -.infinity ? 0 : value }
    let part = LaneMath.zip(sum, LaneMath.zip(top, base) { $0 - $1 }) {
      $0 == 0 && !$1.isNaN ? 0 : $0 * LaneMath.exp2($1 * Self.log2E)
    }
    return (whole, LaneMath.reduce(part, over: distances, &warp) { $0 + $1 })
  }
}
