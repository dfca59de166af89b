import DeviceModel
import TestSupport
import Testing

/// A kernel of one warp whose text is a closure; it notes what the closure returns.
struct OneWarp: WarpKernel {
  typealias Registers = Bool

  var name = "one warp"
  var sites = ["a", "b", "c", "d"]
  var blocks = 1
  var warpsPerBlock = 1
  var sharedBytesPerBlock = 4096
  let body: @Sendable (inout Warp) throws(DeviceError) -> Void

  func makeRegisters() -> Bool { false }
  func run(_ block: inout Block<Bool>, pass: Int) throws(DeviceError) {
    try block.eachWarp { (warp, _) throws(DeviceError) in try body(&warp) }
  }
}

/// Binary16 by Foundation-free integers, apart from the library's C.
func half(_ value: Float) -> UInt16 {
  let magnitude = abs(value)
  let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
  if magnitude.isNaN { return 0x7FFF }
  if magnitude >= 65520 { return sign | 0x7C00 }
  if magnitude < 0x1p-14 {
    return sign | UInt16((magnitude * 0x1p24).rounded(.toNearestOrEven))
  }
  let exponent = Int(magnitude.exponent)
  let scaled = (magnitude.significand * 1024).rounded(.toNearestOrEven)
  return sign | UInt16(Int(scaled) - 1024 + (exponent + 15) << 10)
}

func float(_ half: UInt16) -> Float {
  let sign: Float = half & 0x8000 == 0 ? 1 : -1
  let exponent = Int(half >> 10 & 31)
  let fraction = Float(half & 1023)
  if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
  if exponent == 0 { return sign * fraction * 0x1p-24 }
  return sign * (1024 + fraction) * Float(sign: .plus, exponent: exponent - 25, significand: 1)
}

/// Registers of a fragment from a matrix of `bits`-wide elements.
func registers(_ fragment: Fragment, _ element: (Fragment.Coordinate) -> UInt32) -> [Lanes<UInt32>]
{
  let perWord = 32 / fragment.elementBits
  var result = [Lanes<UInt32>](
    repeating: Lanes(repeating: 0), count: fragment.elementsPerLane / perWord)
  for lane in 0..<32 {
    for index in 0..<fragment.elementsPerLane {
      let bits = element(fragment.coordinate(lane: lane, element: index))
      result[index / perWord][lane] |= bits << UInt32(index % perWord * fragment.elementBits)
    }
  }
  return result
}

@Suite struct MatrixInstructionTests {
  private func run(
    _ body: @escaping @Sendable (inout Warp) throws(DeviceError) -> Void
  ) throws -> Counters {
    try WarpSimulator(checks: true).run(OneWarp(body: body))
  }

  @Test func halfProductIsTheDeclaredSum() throws {
    var random = RepeatableRandom(seed: 3)
    for round in 0..<20 {
      // The last rounds have subnormals, infinities and NaN.
      func value() -> UInt16 {
        round < 15
          ? half(Float.random(in: -8...8, using: &random))
          : UInt16.random(in: 0...UInt16.max, using: &random)
      }
      let a = (0..<256).map { _ in value() }
      let b = (0..<128).map { _ in value() }
      let c = (0..<128).map { _ in Float.random(in: -100...100, using: &random) }
      let aWords = registers(.mmaM16N8K16A) { UInt32(a[$0.row * 16 + $0.column]) }
      let bWords = registers(.mmaM16N8K16B) { UInt32(b[$0.row * 8 + $0.column]) }
      let cFragment = Fragment.mmaM16N8K16C
      let counters = try run { (warp) throws(DeviceError) in
        var sum = FloatAccumulator()
        for lane in 0..<32 {
          for index in 0..<4 {
            let at = cFragment.coordinate(lane: lane, element: index)
            sum[index][lane] = c[at.row * 8 + at.column]
          }
        }
        warp.multiply(
          Registers4(aWords[0], aWords[1], aWords[2], aWords[3]),
          Registers2(bWords[0], bWords[1]), addingTo: &sum)
        for lane in 0..<32 {
          for index in 0..<4 {
            let at = cFragment.coordinate(lane: lane, element: index)
            var wanted = c[at.row * 8 + at.column]
            for k in 0..<16 {
              wanted.addProduct(float(a[at.row * 16 + k]), float(b[k * 8 + at.column]))
            }
            let got = sum[index][lane]
            #expect(got == wanted || got.isNaN && wanted.isNaN, "row \(at.row) of round \(round)")
          }
        }
      }
      #expect(counters.matrixInstructions == [.m16n8k16: 1])
    }
  }

  @Test(arguments: [false, true], [false, true])
  func byteProductIsExact(_ unsignedA: Bool, _ unsignedB: Bool) throws {
    var random = RepeatableRandom(seed: 4)
    let a = (0..<512).map { _ in UInt8.random(in: 0...255, using: &random) }
    let b = (0..<256).map { _ in UInt8.random(in: 0...255, using: &random) }
    let aWords = registers(.mmaM16N8K32A) { UInt32(a[$0.row * 32 + $0.column]) }
    let bWords = registers(.mmaM16N8K32B) { UInt32(b[$0.row * 8 + $0.column]) }
    @Sendable func number(_ byte: UInt8, _ isUnsigned: Bool) -> Int {
      isUnsigned ? Int(byte) : Int(Int8(bitPattern: byte))
    }
    let counters = try run { (warp) throws(DeviceError) in
      var sum = IntegerAccumulator()
      sum.c0 = Lanes(repeating: 1000)
      warp.multiply(
        Registers4(aWords[0], aWords[1], aWords[2], aWords[3]),
        Registers2(bWords[0], bWords[1]), addingTo: &sum, unsignedA: unsignedA,
        unsignedB: unsignedB)
      for lane in 0..<32 {
        for (index, lanes) in [sum.c0, sum.c1, sum.c2, sum.c3].enumerated() {
          let at = Fragment.mmaM16N8K32C.coordinate(lane: lane, element: index)
          let dot = (0..<32).reduce(0) {
            $0 + number(a[at.row * 32 + $1], unsignedA) * number(b[$1 * 8 + at.column], unsignedB)
          }
          #expect(Int(lanes[lane]) == dot + (index == 0 ? 1000 : 0))
        }
      }
    }
    #expect(counters.matrixInstructions == [.m16n8k32: 1])
  }

  @Test(arguments: [false, true], [false, true])
  func voltaProductsAreFourIndependentOnes(_ columnMajorA: Bool, _ rowMajorB: Bool) throws {
    var random = RepeatableRandom(seed: 9)
    let a = (0..<4 * 8 * 4).map { _ in half(Float.random(in: -4...4, using: &random)) }
    let b = (0..<4 * 4 * 8).map { _ in half(Float.random(in: -4...4, using: &random)) }
    let aWords = registers(columnMajorA ? .voltaAColumnMajor : .voltaARowMajor) {
      UInt32(a[($0.tile * 8 + $0.row) * 4 + $0.column])
    }
    let bWords = registers(rowMajorB ? .voltaBRowMajor : .voltaBColumnMajor) {
      UInt32(b[($0.tile * 4 + $0.row) * 8 + $0.column])
    }
    _ = try run { (warp) throws(DeviceError) in
      var sum = VoltaAccumulator()
      warp.multiplyVolta(
        Registers2(aWords[0], aWords[1]), Registers2(bWords[0], bWords[1]), addingTo: &sum,
        columnMajorA: columnMajorA, rowMajorB: rowMajorB)
      for lane in 0..<32 {
        for index in 0..<8 {
          let at = Fragment.voltaCFloat.coordinate(lane: lane, element: index)
          var wanted: Float = 0
          for k in 0..<4 {
            wanted.addProduct(
              float(a[(at.tile * 8 + at.row) * 4 + k]), float(b[(at.tile * 4 + k) * 8 + at.column]))
          }
          let got = index < 4 ? sum.low[index][lane] : sum.high[index - 4][lane]
          #expect(got == wanted, "tile \(at.tile) row \(at.row) column \(at.column)")
        }
      }
    }
  }

  @Test(arguments: [MatrixCount.x1, .x2, .x4], [false, true])
  func matricesLoadAsTheirFragmentSays(_ count: MatrixCount, _ transposed: Bool) throws {
    let fragments: [Fragment] =
      transposed
      ? [.ldmatrixX1Transposed, .ldmatrixX2Transposed, .ldmatrixX4Transposed]
      : [.ldmatrixX1, .ldmatrixX2, .ldmatrixX4]
    let fragment = fragments[count == .x1 ? 0 : count == .x2 ? 1 : 2]
    // Matrix m, row r stands at byte 16·(8m + r)·3 and holds 100·m + 8·r + column.
    let rows = Lanes<UInt32>.each { 48 * $0 }
    let counters = try run { (warp) throws(DeviceError) in
      for column in 0..<8 {
        try warp.storeShared(
          Lanes<UInt32>.each { 100 * ($0 / 8) + 8 * ($0 % 8) + UInt32(column) }, bytes: 2,
          at: rows &+ UInt32(2 * column), site: 0)
      }
      let loaded = try warp.loadMatrix(count, transposed: transposed, at: rows, site: 1)
      for lane in 0..<32 {
        for index in 0..<fragment.elementsPerLane {
          let at = fragment.coordinate(lane: lane, element: index)
          let word = loaded[index / 2][lane] >> UInt32(16 * (index % 2)) & 0xFFFF
          #expect(Int(word) == 100 * at.tile + 8 * at.row + at.column)
        }
      }
      // And back to another place.
      if count == .x4 {
        let target = Lanes<UInt32>.each { 2048 + 16 * $0 }
        try warp.storeMatrix(loaded, .x4, transposed: transposed, at: target, site: 2)
        let row = try warp.loadShared(Registers4.self, at: target, site: 3)
        for lane in 0..<32 {
          for column in 0..<8 {
            let word = row[column / 2][lane] >> UInt32(16 * (column % 2)) & 0xFFFF
            #expect(Int(word) == 100 * (lane / 8) + 8 * (lane % 8) + column)
          }
        }
      }
    }
    #expect(counters.sharedMemory(.ldmatrix).wavefronts == count.rawValue)
    #expect(counters.sharedMemory(.ldmatrix).bytes == 128 * count.rawValue)
  }

  @Test func ldmatrixOfARowMajorTileIsTheAOperand() throws {
    let tile = try RowMajor(rows: 16, columns: 16, elementBits: 16, pitch: 40)
    _ = try run { (warp) throws(DeviceError) in
      for row in 0..<16 {
        try warp.storeShared(
          Lanes<UInt32>.each { UInt32(row * 16) + $0 }, bytes: 2,
          at: .each { UInt32(tile.byteOffset(row: row, column: Int($0 % 16))) },
          mask: .first(16), site: 0)
      }
      let loaded = try warp.loadMatrix(
        .x4, at: .each { UInt32(tile.byteOffset(row: Int($0 % 16), column: Int($0 / 16 * 8))) },
        site: 1)
      let wanted = registers(.mmaM16N8K16A) { UInt32($0.row * 16 + $0.column) }
      for register in 0..<4 { #expect(loaded[register] == wanted[register]) }
    }
  }

  @Test func pairsOfHalvesRoundOnce() {
    var random = RepeatableRandom(seed: 12)
    for _ in 0..<400 {
      func pairs() -> Lanes<UInt32> { .each { _ in .random(in: 0...UInt32.max, using: &random) } }
      let (a, b, c) = (pairs(), pairs(), pairs())
      let results = [
        Half2.add(a, b), Half2.subtract(a, b), Half2.multiply(a, b), Half2.fma(a, b, c),
      ]
      for lane in 0..<32 {
        for shift in [UInt32(0), 16] {
          func part(_ lanes: Lanes<UInt32>) -> UInt16 {
            UInt16(truncatingIfNeeded: lanes[lane] >> shift)
          }
          let (x, y, z) = (float(part(a)), float(part(b)), float(part(c)))
          // Exact in float64 but for sums of far-apart terms, whose rounding to odd is below.
          let exact: [Double] = [
            Double(x) + Double(y), Double(x) - Double(y), Double(x) * Double(y),
            Double(x) * Double(y) + Double(z),
          ]
          for (result, value) in zip(results, exact) {
            let odd =
              value.isFinite && Double(Float(value)) != value ? Self.odd(value) : Float(value)
            let wanted = half(odd)
            #expect(part(result) == wanted || (value.isNaN && part(result) == 0x7FFF))
          }
        }
      }
    }
  }

  /// To float32 with the last bit odd if anything was cut off.
  private static func odd(_ value: Double) -> Float {
    let nearest = Float(value)
    guard nearest.isFinite else { return nearest }
    let outward = Double(nearest).magnitude > value.magnitude
    return Float(bitPattern: (outward ? nearest.bitPattern - 1 : nearest.bitPattern) | 1)
  }

  @Test func shufflesMoveWholeRegisters() throws {
    let counters = try run { (warp) throws(DeviceError) in
      let own = Lanes<UInt32>.laneIndex
      #expect(warp.shuffle(own, xor: 5) == .each { $0 ^ 5 })
      #expect(warp.shuffle(own, from: .each { 31 - $0 }) == .each { 31 - $0 })
      #expect(warp.shuffle(own, down: 16) == .each { $0 < 16 ? $0 + 16 : $0 })
    }
    #expect(counters.instructions == [.shuffle: 3])
  }
}
