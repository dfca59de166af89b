import CQuantKernels
import Testing

@testable import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Angles of rebuilt keys on the CPU: a block's first position and the sixteen after it, put together.
@Suite struct RebuiltAngleTests {
  @Test func angleIsRightToAMillionPositions() throws {
    let test = LowRankCase(
      keyValueHeads: 1, queriesPerHead: 1, headDimension: 128, modelWidth: 8, headsPerGroup: 1,
      rank: 4, mode: .rebuilt)
    let layer = try test.layer()
    let pairs = 64
    let blocks = Int(QK_LATENT_BLOCKS)
    var cosines = [Float](repeating: 0, count: blocks * pairs)
    var sines = cosines
    var worst = 0.0
    for partition in [0, 1, 2, 255, 1023, 2048, 4094, 4095] {
      layer.fillAngles(partition: partition, cosines: &cosines, sines: &sines)
      for block in 0..<blocks {
        for slot in 0..<16 {
          let position = (partition * blocks + block) * 16 + slot
          for pair in 0..<pairs {
            // As the kernel joins them, in float32.
            let (c, s) = (cosines[block * pairs + pair], sines[block * pairs + pair])
            let (a, b) = (layer.cosines[pair * 16 + slot], layer.sines[pair * 16 + slot])
            let found = atan2(Double(s * a + c * b), Double(c * a - s * b))
            let exact = layer.rotary.frequencies[pair] * Double(position)
            let turns = (found - exact) / (2 * .pi)
            worst = max(worst, (turns - turns.rounded()).magnitude * 2 * .pi)
          }
        }
      }
    }
    #expect(worst <= 1e-5, "\(worst)")
    #expect(worst <= 5e-7, "a few roundings of float32: \(worst)")
  }
}
