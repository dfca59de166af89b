import CQuantKernels

/// One token's latents of one group as codes, as a packed cache keeps them.
///
/// m is the largest half-precision number not above the least latent, s the least one with
/// `m + s·(2^b − 1)` not below the largest, and codes are rounded in double, so that
/// `|x − (m + s·q)| ≤ s/2` holds for every latent but for relative errors of 1e-15: of one sign,
/// constant, zero, or so small that m or s is subnormal.
public struct QuantizedLatent: Sendable, Equatable {
  /// b: bits of a code.
  public let bits: Int
  /// q, one a byte.
  public let codes: [UInt8]
  /// s and m, bits of half-precision numbers.
  public let scale: UInt16
  /// m, the bits of a half-precision number.
  public let minimum: UInt16

  /// Quantizes latents. Each instruction set gives the same bits.
  ///
  /// - Throws: ``QuantError``: `.invalidArgument` when there are none, more than 8192, or for bits
  ///   other than 2, 3, 4 and 8; `.invalidData` for a number that is not finite or whose magnitude
  ///   exceeds 65504.
  public init(
    _ latents: [Float], bits: Int, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    try Self.check(bits: bits, count: latents.count)
    var codes = [UInt8](repeating: 0, count: latents.count)
    var scale: UInt16 = 0
    var minimum: UInt16 = 0
    let kernels = qk_latent_kernels_for(instructionSet.kernelTableIdentifier)
    let isGood = latents.withUnsafeBufferPointer { latents in
      codes.withUnsafeMutableBufferPointer { codes in
        guard let source = latents.baseAddress, let target = codes.baseAddress else { return false }
        return kernels.pointee.quantize(
          source, latents.count, Int32(bits), target, &scale, &minimum) != 0
      }
    }
    guard isGood else {
      throw QuantError(
        .invalidData, "latents", "a number is not finite or beyond 65504",
        remedy: "look for NaN or infinity in the weights, or use f32 latents")
    }
    self.bits = bits
    self.codes = codes
    self.scale = scale
    self.minimum = minimum
  }

  static func check(bits: Int, count: Int) throws(QuantError) {
    guard [2, 3, 4, 8].contains(bits) else {
      throw QuantError(
        .invalidArgument, "latent bits", "\(bits) is none of 2, 3, 4, 8",
        remedy: "choose one of these")
    }
    guard 1...Int(QK_LATENT_MOST_WIDTH) ~= count else {
      throw QuantError(
        .invalidArgument, "latents", "\(count) of a group", remedy: "use 1 to 8192")
    }
  }

  /// The numbers that the codes stand for.
  public var latents: [Double] {
    let scale = Double(HalfPrecision.float(fromHalf: scale))
    let minimum = Double(HalfPrecision.float(fromHalf: self.minimum))
    return codes.map { minimum + scale * Double($0) }
  }

  /// The codes as a stream of bits, the first one's lowest bit first: `⌈count·b/8⌉` bytes.
  public var packed: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: (codes.count * bits + 7) / 8)
    qk_latent_pack_bits(codes, codes.count, Int32(bits), &bytes)
    return bytes
  }

  /// Codes from such a stream.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that do not fit each other.
  public static func unpack(
    _ packed: [UInt8], count: Int, bits: Int
  ) throws(QuantError) -> [UInt8] {
    try check(bits: bits, count: count)
    guard packed.count == (count * bits + 7) / 8 else {
      throw QuantError(
        .invalidArgument, "packed latents",
        "\(packed.count) bytes for \(count) codes of \(bits) bits",
        remedy: "give \((count * bits + 7) / 8)")
    }
    var codes = [UInt8](repeating: 0, count: count)
    qk_latent_unpack_bits(packed, count, Int32(bits), &codes)
    return codes
  }
}
