import QuantKernels
import TestSupport
import Testing

@Suite struct LowRankFactorsTests {
  typealias Shape = LowRankFactors.Shape
  typealias Group = LowRankFactors.Group

  static func shape(_ change: (inout Shape) -> Void = { _ in }) -> Shape {
    var shape = Shape(
      layers: 1, queryHeads: 4, keyValueHeads: 2, headDimension: 4, modelWidth: 6,
      rotaryDimension: 4, rotaryStyle: .halves)
    change(&shape)
    return shape
  }

  static func group(_ shape: Shape, heads: Int, rank: Int) -> Group {
    var random = RepeatableRandom(seed: UInt64(rank))
    return Group(
      rank: rank, down: random.normals(rank * shape.modelWidth),
      up: random.normals(heads * shape.headDimension * rank))
  }

  /// Factors of one layer whose first value group is changed.
  private func make(
    _ shape: Shape = shape(), heads: Int = 1, rank: Int = 3, mode: LowRankFactors.KeyMode = .rebuilt,
    bits: Int = 4, change: (inout Group) -> Void = { _ in }
  ) throws -> LowRankFactors {
    let count = heads > 0 ? shape.keyValueHeads / heads : 1
    var values = (0..<count).map { _ in Self.group(shape, heads: heads, rank: rank) }
    change(&values[0])
    let keys =
      mode == .rotated ? [] : (0..<count).map { _ in Self.group(shape, heads: heads, rank: rank) }
    return try LowRankFactors(
      shape: shape, headsPerGroup: heads, keyMode: mode, bits: bits, isRotated: false,
      layers: [.init(keys: keys, values: values)])
  }

  private func refuses(
    _ code: QuantError.Code, _ mention: String, _ body: () throws -> LowRankFactors,
    line: Int = #line
  ) {
    let error = #expect(throws: QuantError.self) { try body() }
    #expect(error?.code == code, "line \(line): \(error?.description ?? "")")
    #expect(error?.description.contains(mention) == true, "line \(line): \(error?.description ?? "")")
  }

  @Test func takesWhatFits() throws {
    let factors = try make(heads: 2, rank: 6)
    #expect(factors.groupCount == 1)
    #expect(factors.groupWidth == 8)
    #expect(factors.fullRank == 6)
    _ = try make(rank: 1)
    _ = try make(mode: .rotated)
    for bits in [2, 3, 4, 8] { _ = try make(bits: bits) }
    // Without a rotary embedding an odd head is as good as any.
    _ = try make(Self.shape { ($0.headDimension, $0.rotaryDimension) = (5, 0) })
    _ = try make { $0.bias = [1, 2, 3, 4] }
  }

  @Test func refusesShapes() {
    refuses(.invalidArgument, "multiple") { try make(Self.shape { $0.queryHeads = 3 }) }
    refuses(.invalidArgument, "rotary") { try make(Self.shape { $0.headDimension = 5 }) }
    refuses(.invalidArgument, "rotary") { try make(Self.shape { $0.rotaryDimension = 6 }) }
    refuses(.invalidArgument, "rotary") { try make(Self.shape { $0.rotaryDimension = 3 }) }
    refuses(.invalidArgument, "model width") { try make(Self.shape { $0.modelWidth = 0 }) }
    refuses(.invalidArgument, "layers") { try make(Self.shape { $0.layers = -1 }) }
    refuses(.invalidArgument, "head dimension") {
      try make(Self.shape { $0.headDimension = Int.max })
    }
    refuses(.invalidArgument, "heads per group") { try make(heads: 0) }
    refuses(.invalidArgument, "heads per group") {
      try make(Self.shape { ($0.queryHeads, $0.keyValueHeads) = (6, 3) }, heads: 2)
    }
    for bits in [-1, 0, 1, 5, 7, 16, Int.max] {
      refuses(.invalidArgument, "bits") { try make(bits: bits) }
    }
  }

  @Test func refusesFactors() {
    refuses(.invalidData, "rank 0") { try make { $0.rank = 0 } }
    refuses(.invalidData, "rank -1") { try make { $0.rank = -1 } }
    // Above s·d_h, and above the model's width.
    refuses(.invalidData, "outside 1…4") { try make(rank: 5) }
    refuses(.invalidData, "outside 1…6") { try make(heads: 2, rank: 7) }
    refuses(.invalidData, "down") { try make { $0.down.removeLast() } }
    refuses(.invalidData, "up") { try make { $0.up.append(0) } }
    refuses(.invalidData, "bias") { try make { $0.bias = [] } }
    refuses(.invalidData, "nan") { try make { $0.down[3] = .nan } }
    refuses(.invalidData, "inf") { try make { $0.up[0] = -.infinity } }
    refuses(.invalidData, "bias is inf") { try make { $0.bias = [0, 0, 0, .infinity] } }
    refuses(.invalidData, "latent bias") { try make { $0.latentBias = [0, 0, 0] } }
    refuses(.invalidData, "frequencies") { try make { $0.frequencies = [0] } }
    refuses(.invalidData, "layers") {
      try LowRankFactors(
        shape: Self.shape(), headsPerGroup: 1, keyMode: .rebuilt, bits: 4, isRotated: false,
        layers: [])
    }
    refuses(.invalidData, "groups") {
      try LowRankFactors(
        shape: Self.shape(), headsPerGroup: 1, keyMode: .rotated, bits: 4, isRotated: false,
        layers: [
          .init(
            keys: [Self.group(Self.shape(), heads: 1, rank: 2)],
            values: [Self.group(Self.shape(), heads: 1, rank: 2)])
        ])
    }
  }

  /// A commuting group of two heads: one latent of frequency 0 and one of frequency 1.
  private func commuting(_ change: (inout Group) -> Void = { _ in }) throws -> LowRankFactors {
    let shape = Self.shape()
    var up = [Float](repeating: 0, count: 8 * 4)
    for head in 0..<2 {
      for pair in 0..<2 {
        let (a, b) = shape.elements(ofPair: pair)
        let (real, imaginary): (Float, Float) = (Float(head) + 1, 0.5)
        up[(head * 4 + a) * 4 + 2 * pair] = real
        up[(head * 4 + a) * 4 + 2 * pair + 1] = -imaginary
        up[(head * 4 + b) * 4 + 2 * pair] = imaginary
        up[(head * 4 + b) * 4 + 2 * pair + 1] = real
      }
    }
    var random = RepeatableRandom(seed: 5)
    var group = Group(rank: 4, down: random.normals(24), up: up, frequencies: [0, 1])
    change(&group)
    return try LowRankFactors(
      shape: shape, headsPerGroup: 2, keyMode: .commuting, bits: 4, isRotated: false,
      layers: [.init(keys: [group], values: [Self.group(shape, heads: 2, rank: 3)])])
  }

  @Test func refusesKeysThatDoNotCommute() throws {
    _ = try commuting()
    _ = try commuting { $0.latentBias = [1, 2, 3, 4] }
    refuses(.invalidData, "another frequency") { try commuting { $0.up[1 * 4] = 1 } }
    refuses(.invalidData, "complex") { try commuting { $0.up[0] *= 2 } }
    refuses(.invalidData, "frequency 3") { try commuting { $0.frequencies = [0, 3] } }
    refuses(.invalidData, "frequency -1") { try commuting { $0.frequencies = [-1, 1] } }
    refuses(.invalidData, "frequencies") { try commuting { $0.frequencies = [0] } }
    refuses(.invalidData, "does not turn") {
      try commuting { $0.bias = [Float](repeating: 1, count: 8) }
    }
    refuses(.invalidData, "odd") {
      try commuting {
        $0.rank = 3
        $0.down.removeLast(6)
        $0.up.removeLast(8)
      }
    }
    refuses(.invalidArgument, "commute") {
      try make(Self.shape { $0.rotaryDimension = 0 }, mode: .commuting)
    }
  }
}
