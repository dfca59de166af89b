import DeviceModel
import TestSupport
import Testing

@Suite struct VoltaSumsTests {
  /// An 8×8×4 product in each quad-pair with binary16 sums: float32 inside an instruction, one
  /// rounding at its end.
  @Test(arguments: [false, true], [false, true])
  func halfSumsAreTheDeclaredOnes(_ columnMajorA: Bool, _ rowMajorB: Bool) throws {
    var random = RepeatableRandom(seed: 31)
    let a = (0..<4 * 8 * 4).map { _ in half(Float.random(in: -4...4, using: &random)) }
    let b = (0..<4 * 4 * 8).map { _ in half(Float.random(in: -4...4, using: &random)) }
    let c = (0..<4 * 8 * 8).map { _ in half(Float.random(in: -9...9, using: &random)) }
    let aWords = registers(columnMajorA ? .voltaAColumnMajor : .voltaARowMajor) {
      UInt32(a[($0.tile * 8 + $0.row) * 4 + $0.column])
    }
    let bWords = registers(rowMajorB ? .voltaBRowMajor : .voltaBColumnMajor) {
      UInt32(b[($0.tile * 4 + $0.row) * 8 + $0.column])
    }
    let cWords = registers(.voltaCHalf) { UInt32(c[($0.tile * 8 + $0.row) * 8 + $0.column]) }
    let counters = try WarpSimulator(checks: true).run(
      OneWarp { (warp) throws(DeviceError) in
        var sum = Registers4(cWords[0], cWords[1], cWords[2], cWords[3])
        warp.multiplyVolta(
          Registers2(aWords[0], aWords[1]), Registers2(bWords[0], bWords[1]),
          addingToHalves: &sum, columnMajorA: columnMajorA, rowMajorB: rowMajorB)
        for lane in 0..<32 {
          for element in 0..<8 {
            let at = Fragment.voltaCHalf.coordinate(lane: lane, element: element)
            var wanted = float(c[(at.tile * 8 + at.row) * 8 + at.column])
            for k in 0..<4 {
              wanted +=
                float(a[(at.tile * 8 + at.row) * 4 + k])
                * float(b[(at.tile * 4 + k) * 8 + at.column])
            }
            let got = UInt16(truncatingIfNeeded: sum[element / 2][lane] >> UInt32(element % 2 * 16))
            #expect(got == half(wanted))
          }
        }
      })
    #expect(counters.matrixInstructions == [.m8n8k4: 1])
  }

  /// The sum in two neighbors of an array is the accumulator's.
  @Test func sumsInAnArray() throws {
    var random = RepeatableRandom(seed: 32)
    func words() -> Registers2 {
      func word() -> Lanes<UInt32> {
        .each { _ in
          UInt32(half(Float.random(in: -4...4, using: &random)))
            | UInt32(half(Float.random(in: -4...4, using: &random))) << 16
        }
      }
      return Registers2(word(), word())
    }
    let (a, b) = (words(), words())
    _ = try WarpSimulator().run(
      OneWarp { (warp) throws(DeviceError) in
        var sums = [FloatAccumulator](repeating: FloatAccumulator(), count: 4)
        var whole = VoltaAccumulator()
        try warp.multiplyVolta(a, b, addingTo: &sums, at: 2, rowMajorB: true)
        warp.multiplyVolta(a, b, addingTo: &whole, rowMajorB: true)
        #expect(sums[2] == whole.low && sums[3] == whole.high)
        #expect(sums[0] == FloatAccumulator() && sums[1] == FloatAccumulator())
        do throws(DeviceError) {
          try warp.multiplyVolta(a, b, addingTo: &sums, at: 3)
          Issue.record("no room for the sum")
        } catch {
          #expect(error.code == .invalidArgument)
        }
      })
  }
}
