import QuantKernels
import TestSupport
import Testing

@Suite struct VectorOperationsTests {
  static let counts = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100]

  private func values(_ count: Int, _ bound: Float, seed: UInt64 = 3) -> [Float] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in (Float(random.next() >> 40) * 0x1p-23 - 1) * bound }
  }

  /// Runs `body` on every level, on a copy of `x` with guards behind it, and expects of every
  /// element |found − expected| ≤ ulps · 2⁻²³ |expected| + tiny, all levels the same bits, and
  /// whole guards.
  private func expect(
    _ x: [Float], _ expected: [Double], ulps: Double, tiny: Double = 0x1p-149,
    _ body: (UnsafeMutablePointer<Float>, InstructionSet) -> Void
  ) {
    var scalar: [UInt32] = []
    for set in InstructionSet.supported {
      var found = x + [Float](repeating: 77, count: 16)
      found.withUnsafeMutableBufferPointer { buffer in
        if let base = buffer.baseAddress { body(base, set) }
      }
      #expect(found[x.count...].allSatisfy { $0 == 77 }, "\(set) wrote past the end")
      for (index, value) in expected.enumerated() {
        let difference = (Double(found[index]) - value).magnitude
        if !(difference <= ulps * 0x1p-23 * value.magnitude + tiny) {
          Issue.record("\(set): element \(index) of \(x.count): \(found[index]), not \(value)")
        }
      }
      let bits = found.map(\.bitPattern)
      if set == .scalar { scalar = bits }
      #expect(bits == scalar, "\(set) differs from scalar")
    }
  }

  @Test(arguments: counts)
  func rmsNorm(count: Int) {
    let x = values(count, 3)
    let weight = values(count, 2, seed: 4)
    let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(max(count, 1))
    let root = (mean + 1e-5).squareRoot()
    // The sum of squares: a chain of count / 16 and a tree of 4, halved by the root; five more
    // roundings.
    expect(
      x, zip(x, weight).map { Double($0) / root * Double($1) },
      ulps: (Double(count) / 16 + 4) / 4 + 3
    ) { y, set in
      VectorOperations.rmsNorm(
        UnsafePointer(y), weight: weight, epsilon: 1e-5, into: y, count: count,
        instructionSet: set)
    }
  }

  @Test(arguments: counts)
  func gatedActivations(count: Int) {
    let gate = values(count, 12)
    let up = values(count, 2, seed: 5)
    expect(
      gate, zip(gate, up).map { Double($0) / (1 + exponential(-Double($0))) * Double($1) }, ulps: 4
    ) { y, set in
      VectorOperations.siluMultiply(
        UnsafePointer(y), up, into: y, count: count, instructionSet: set)
    }
    let gelu = gate.map { gate -> Double in
      let x = Double(gate)
      return x / (1 + exponential(-2 * 0.7978845608028654 * (x + 0.044715 * x * x * x)))
    }
    // The exponent's relative rounding, 3 · 2⁻²⁴, times the exponent, at most 145 where anything is
    // left.
    expect(gate, zip(gelu, up).map { $0 * Double($1) }, ulps: 300, tiny: 1e-37) { y, set in
      VectorOperations.geluMultiply(
        UnsafePointer(y), up, into: y, count: count, instructionSet: set)
    }
    expect(
      gate, zip(gate, up).map { $0 > 0 ? Double($0) * Double($0) * Double($1) : 0 }, ulps: 2
    ) { y, set in
      VectorOperations.squaredReLUMultiply(
        UnsafePointer(y), up, into: y, count: count, instructionSet: set)
    }
  }

  @Test(arguments: counts)
  func sumsScalesAndCaps(count: Int) {
    let x = values(count, 100)
    let y = values(count, 100, seed: 6)
    expect(y, zip(x, y).map { Double($0 + $1) }, ulps: 0) { y, set in
      VectorOperations.add(x, into: y, count: count, instructionSet: set)
    }
    expect(x, x.map { Double($0 * 0.37) }, ulps: 0) { x, set in
      VectorOperations.scale(x, 0.37, count: count, instructionSet: set)
    }
    for cap in [30, 1000] as [Float] {
      expect(x, x.map { Double(cap) * hyperbolicTangent(Double($0) / Double(cap)) }, ulps: 4) {
        VectorOperations.softCap($0, cap, count: count, instructionSet: $1)
      }
    }
  }

  @Test(arguments: counts.filter { $0 > 0 } + [5000])
  func softmax(count: Int) {
    let x = values(count, 9)
    let maximum = Double(x.max() ?? 0)
    let weights = x.map { exponential(Double($0) - maximum) }
    let sum = weights.reduce(0, +)
    // x − max rounds relative to at most 18; the sum is a chain of count / 16.
    expect(x, weights.map { $0 / sum }, ulps: 9 + 4 + Double(count) / 32) { x, set in
      VectorOperations.softmax(
        UnsafeMutableBufferPointer(start: x, count: count), instructionSet: set)
    }
  }

  @Test(arguments: [2, 6, 8, 10, 16, 32, 34, 64, 80], [0, 5])
  func rotations(rotary: Int, beyond: Int) {
    let heads = 3
    let dimension = rotary + beyond
    let angles = values(rotary / 2, 3, seed: 8)
    let cos = angles.map { Float(cosine(Double($0))) }
    let sin = angles.map { Float(sine(Double($0))) }
    let x = values(heads * dimension, 5)
    for style in [VectorOperations.RotaryStyle.interleaved, .halves] {
      var expected = x.map(Double.init)
      for head in 0..<heads {
        for i in 0..<rotary / 2 {
          let first = head * dimension + (style == .interleaved ? 2 * i : i)
          let second = style == .interleaved ? first + 1 : first + rotary / 2
          let (a, b) = (Double(x[first]), Double(x[second]))
          expected[first] = a * Double(cos[i]) - b * Double(sin[i])
          expected[second] = b * Double(cos[i]) + a * Double(sin[i])
        }
      }
      // Two roundings of terms of at most 5.
      expect(x, expected, ulps: 1, tiny: 2 * 5 * 0x1p-24) { x, set in
        VectorOperations.rotate(
          x, heads: heads, headDimension: dimension, rotaryDimension: rotary, cos: cos, sin: sin,
          style: style, instructionSet: set)
      }
    }
  }

  /// Steps through all floats: exp (as silu's denominator), and tanh, across subnormal results and
  /// overflow.
  @Test func exponentialsEverywhere() {
    var x: [Float] = [0, -0.0, 1e-30, -1e-30, 88.72, 88.73, 89, 104, 1e30, -87.3, -88, -103, -104]
    x += (-1200...1200).map { Float($0) * 0.0931 }
    let one = [Float](repeating: 1, count: x.count)
    // x / (1 + e^−x): past e^88.7 the denominator overflows and the result is 0.
    expect(
      x, x.map { Double($0) / (1 + exponential(-Double($0))) }, ulps: 3, tiny: 110 / 0x1p127
    ) {
      VectorOperations.siluMultiply(
        UnsafePointer($0), one, into: $0, count: x.count, instructionSet: $1)
    }
    expect(x, x.map { hyperbolicTangent(Double($0)) }, ulps: 2) {
      VectorOperations.softCap($0, 1, count: x.count, instructionSet: $1)
    }
    // softmax of (0, x) for x ≤ 0 is e^x / (1 + e^x).
    for value in x where value <= 0 {
      let e = exponential(Double(value))
      expect([0, value], [1 / (1 + e), e / (1 + e)], ulps: 4) {
        VectorOperations.softmax(
          UnsafeMutableBufferPointer(start: $0, count: 2), instructionSet: $1)
      }
    }
  }

  @Test func notANumberStays() {
    for bad in [Float.nan, .infinity] {
      for set in InstructionSet.supported {
        var x = [Float](repeating: 1, count: 20)
        x[18] = bad
        var y = x
        VectorOperations.siluMultiply(x, x, into: &y, count: 20, instructionSet: set)
        #expect(!y[18].isFinite && y[17].isFinite)
        y = x
        y.withUnsafeMutableBufferPointer { VectorOperations.softmax($0, instructionSet: set) }
        #expect(y.contains { $0.isNaN })
        #expect(
          !VectorOperations.areWithin(.greatestFiniteMagnitude, x, count: 20, instructionSet: set))
        #expect(VectorOperations.areWithin(1, x, count: 18, instructionSet: set))
      }
    }
  }

  /// Every half there is, and floats at every rounding boundary.
  @Test(arguments: InstructionSet.supported)
  func halves(set: InstructionSet) {
    let all = (0...UInt16.max).map { $0 }
    var floats = [Float](repeating: 0, count: all.count)
    VectorOperations.floats(fromHalves: all, into: &floats, count: all.count, instructionSet: set)
    var back = [UInt16](repeating: 0, count: all.count)
    VectorOperations.halves(fromFloats: floats, into: &back, count: all.count, instructionSet: set)
    for half in all {
      let expected = HalfPrecision.float(fromHalf: half)
      if expected.isNaN {
        #expect(floats[Int(half)].isNaN)
      } else if floats[Int(half)].bitPattern != expected.bitPattern || back[Int(half)] != half {
        Issue.record("half \(half): \(floats[Int(half)]), back \(back[Int(half)])")
      }
    }
    // Halfway between neighbours, and one float to each side of it.
    var between: [Float] = [65519.996, 65520, 70000, 1e30, 0x1p-25, 0x1.000002p-25]
    for half in stride(from: 0, to: 0x7BFF, by: 7) {
      let middle = (floats[half] + floats[half + 1]) / 2
      between += [middle, middle.nextUp, middle.nextDown, -middle]
    }
    for count in [between.count, between.count - 1, 5, 3] {
      var rounded = [UInt16](repeating: 0xABCD, count: count + 1)
      VectorOperations.halves(
        fromFloats: between, into: &rounded, count: count, instructionSet: set)
      #expect(rounded[count] == 0xABCD)
      for index in 0..<count where rounded[index] != HalfPrecision.half(between[index]) {
        Issue.record("\(between[index]): \(rounded[index])")
      }
    }
  }
}
