import DeviceModel

/// BitNet's W2A8 matrix-vector product on simulated warps: int8 activations of one token by ternary
/// weights of 2 bits, with `dp4a`.
///
/// 4 warps a block of 16 outputs: a warp has 4 outputs, 8 lanes each. A step is 128 inputs; a lane
/// loads 16 activations and the word of the 16 weights that meet them, peels four codes at a time to
/// bytes, subtracts 2 from each and adds four `dp4a`. Eight lanes are summed by shuffles. Everything
/// is integer, so the order of sums does not matter, and the sums are those of any other kernel.
///
/// The original then writes bfloat16(sum / activation scale · weight scale); see ``Result``. It knows
/// ten shapes; any multiple of 16 outputs and 128 inputs works here.
///
/// Source: microsoft/BitNet `gpu/bitnet_kernels/bitnet_kernels.h`.
public struct W2A8Gemv: WarpKernel {
  /// What is written for each output.
  public enum Result: Sendable, Equatable {
    /// The int32 sum.
    case sums
    /// bfloat16(Float(sum) / activationScale · weightScale), one weight scale for each equal run of
    /// outputs (fused layers have several).
    case brainFloats(activationScale: Float, weightScales: [Float])
  }

  /// What a warp keeps: its lanes' sums.
  public struct Registers: Sendable {
    var sums = Lanes<Int32>()
  }

  /// Outputs of the layer.
  public let outputs: Int
  /// Inputs of the layer.
  public let inputs: Int
  /// The order of the packed codes.
  public let layout: InterleavedLayout
  /// What is written.
  public let result: Result

  /// Byte offsets of a lane's word and activations, relative to a block and a step, `[warp]`.
  private let wordOffsets: [Lanes<UInt32>]
  private let inputOffsets: Lanes<UInt32>
  private let blockStride: Int
  private let stepStride: Int
  private let input: GlobalBuffer
  private let weights: GlobalBuffer
  private let product: GlobalBuffer

  public var name: String { "w2a8" }
  public var blocks: Int { outputs / 16 }
  public var warpsPerBlock: Int { 4 }
  public var sharedBytesPerBlock: Int { 0 }
  public var sites: [String] { ["activation load", "weight load", "store"] }
  public var blockClasses: [BlockClass] { [BlockClass(representative: 0, count: blocks)] }

  /// The product of real weights and activations.
  ///
  /// - Parameters:
  ///   - codes: `[outputs · inputs]`, row-major: 0, 1, 2 for −1, 0, +1.
  ///   - activations: `[inputs]`.
  ///   - outputs: N.
  ///   - inputs: K.
  ///   - result: integer sums, or floats by these scales.
  /// - Throws: ``QuantError`` for shapes that the kernel does not take, wrong lengths, a code above
  ///   2, more than one token, and scales that are not finite or whose runs do not divide the
  ///   outputs.
  public init(
    codes: [UInt8], activations: [Int8], outputs: Int, inputs: Int, result: Result = .sums
  ) throws(QuantError) {
    let subject = "W2A8 \(outputs)×\(inputs)"
    guard outputs > 0, inputs > 0, !outputs.multipliedReportingOverflow(by: inputs).overflow,
      codes.count == outputs * inputs
    else {
      throw QuantError(
        .invalidArgument, subject, "\(codes.count) codes where outputs · inputs belong",
        remedy: "pass one code a weight, row-major")
    }
    guard activations.count == inputs else {
      let isMore = activations.count > inputs && activations.count % inputs == 0
      throw QuantError(
        isMore ? .unsupported : .invalidArgument, subject,
        "\(activations.count) activations where \(inputs) belong",
        remedy: "the kernel multiplies one token at a time")
    }
    if let bad = codes.firstIndex(where: { $0 > 2 }) {
      throw QuantError(
        .invalidData, subject,
        "code \(codes[bad]) at row \(bad / inputs), column \(bad % inputs)",
        remedy: "ternary codes are 0, 1, 2 for −1, 0, +1")
    }
    try self.init(outputs, inputs, result, contents: (codes, activations))
  }

  /// A kernel of this shape whose buffers hold zeros, for runs that only count.
  ///
  /// - Throws: as ``init(codes:activations:outputs:inputs:result:)``.
  public init(countingOutputs outputs: Int, inputs: Int) throws(QuantError) {
    try self.init(
      outputs, inputs, .brainFloats(activationScale: 1, weightScales: [1]), contents: nil)
  }

  private init(
    _ outputs: Int, _ inputs: Int, _ result: Result,
    contents: (codes: [UInt8], activations: [Int8])?
  ) throws(QuantError) {
    let subject = "W2A8 \(outputs)×\(inputs)"
    guard outputs > 0, inputs > 0, outputs <= 1 << 24, inputs <= 1 << 22, outputs % 16 == 0,
      inputs % 128 == 0
    else {
      throw QuantError(
        .invalidArgument, subject,
        "needs a multiple of 16 outputs up to 2²⁴ and of 128 inputs up to 2²²",
        remedy: "pad the layer")
    }
    if case .brainFloats(let activation, let scales) = result {
      guard activation.isFinite, activation != 0, !scales.isEmpty,
        scales.allSatisfy(\.isFinite), outputs % scales.count == 0
      else {
        throw QuantError(
          .invalidArgument, subject,
          "activation scale \(activation) and \(scales.count) weight scales",
          remedy: "pass finite scales, not zero, whose number divides the outputs")
      }
    }
    self.outputs = outputs
    self.inputs = inputs
    self.result = result
    let layout = try InterleavedLayout.w2a8(rows: outputs, columns: inputs)
    self.layout = layout
    // Lane = input unit + 8 · output; warp w has outputs 4w….
    wordOffsets = (0..<4).map { warp in
      Lanes<UInt32>.each { lane in
        UInt32(layout.byteOffset(row: 4 * warp + Int(lane) / 8, column: Int(lane) % 8 * 16))
      }
    }
    inputOffsets = Lanes<UInt32>.each { lane in lane % 8 * 16 }
    blockStride = outputs == 16 ? 0 : layout.byteOffset(row: 16, column: 0)
    stepStride = inputs == 128 ? 0 : layout.byteOffset(row: 0, column: 128)
    let words = try contents.map { contents throws(QuantError) in
      // The kernel's codes are w + 2.
      try layout.pack(contents.codes.map { $0 + 1 }, padding: 2)
    }
    let bytes = result == .sums ? 4 : 2
    (input, weights, product) = try QuantError.translating {
      (
        try contents.map { try GlobalBuffer("activations", $0.activations) }
          ?? GlobalBuffer("activations", byteCount: inputs),
        try words.map { try GlobalBuffer("weights", $0) }
          ?? GlobalBuffer("weights", byteCount: layout.byteCount),
        try GlobalBuffer("output", byteCount: outputs * bytes)
      )
    }
  }

  /// The sums after a full run; nil when the kernel wrote bfloat16.
  public var sums: [Int32]? { result == .sums ? product.contents(as: Int32.self) : nil }

  /// The bfloat16 bits after a full run; nil when the kernel wrote sums.
  public var output: [UInt16]? { result == .sums ? nil : product.contents(as: UInt16.self) }

  public func makeRegisters() -> Registers { Registers() }

  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let number = block.index
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      let words = wordOffsets[warp.index].moved(by: number * blockStride)
      for step in 0..<inputs / 128 {
        let activations: Registers4 = try warp.loadGlobal(
          from: input, at: inputOffsets.moved(by: step * 128), site: 0)
        let word: Lanes<UInt32> = try warp.loadGlobal(
          from: weights, at: words.moved(by: step * stepStride), site: 1)
        for four in 0..<4 {
          let shift = UInt32(2 * four)
          // Each byte less 2: the top bit keeps the borrow inside the byte and is turned back.
          let weights = word.mapWords {
            (($0 &>> shift & 0x0303_0303 | 0x8080_8080) &- 0x0202_0202) ^ 0x8080_8080
          }
          registers.sums = Half2.dp4a(activations[four], weights, registers.sums)
        }
      }
      // Four times: a shift but for the first, a lop3, and the byte-wise subtraction, which has no
      // instruction of its own since Kepler and compiles to some four; one dp4a. Two addresses.
      let steps = inputs / 128
      warp.count(.integer, steps * (3 + 4 + 16 + 2))
      warp.count(.dot, steps * 4)
      warp.count(.control, steps)
      var sums = registers.sums
      for distance in [4, 2, 1] {
        let other = warp.shuffle(Self.bits(sums), down: distance)
        sums = sums &+ Self.integers(other)
        warp.count(.integer, 1)
      }
      try store(sums, output: 16 * number + 4 * warp.index, &warp)
    }
  }

  /// Lanes 0, 8, 16, 24 hold the sums of outputs `output`….
  private func store(_ sums: Lanes<Int32>, output: Int, _ warp: inout Warp) throws(DeviceError) {
    let holders = LaneMask(rawValue: 0x0101_0101)
    let places = Lanes<UInt32>.each { UInt32(output) + $0 / 8 }
    switch result {
    case .sums:
      try warp.storeGlobal(
        Self.bits(sums), bytes: 4, to: product, at: places.mapWords { $0 &* 4 }, mask: holders,
        site: 2)
    case .brainFloats(let activation, let scales):
      let run = outputs / scales.count
      let values = Lanes<UInt32>.each { lane in
        let index = Int(lane)
        guard index % 8 == 0 else { return 0 }
        let scale = scales[Int(places[index]) / run]
        return UInt32(HalfPrecision.brain(Float(sums[index]) / activation * scale))
      }
      warp.count(.conversion, 2)
      warp.count(.special, 1)
      warp.count(.float, 2)
      try warp.storeGlobal(
        values, bytes: 2, to: product, at: places.mapWords { $0 &* 2 }, mask: holders, site: 2)
    }
  }

  private static func bits(_ values: Lanes<Int32>) -> Lanes<UInt32> {
    unsafeBitCast(values, to: Lanes<UInt32>.self)
  }

  private static func integers(_ values: Lanes<UInt32>) -> Lanes<Int32> {
    unsafeBitCast(values, to: Lanes<Int32>.self)
  }
}
