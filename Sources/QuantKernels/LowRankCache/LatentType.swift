import CQuantKernels

/// How the latents of a low-rank cache are stored.
///
/// The packed types keep, for every token and group, b-bit codes q with a scale s and a floating
/// minimum m in half precision, `x̂ = m + s·q`: `⌈r·b/8⌉ + 4` bytes for r latents. A floating
/// minimum, unlike a zero point held in the codes' range, does not lose a vector whose numbers all
/// have one sign.
public enum LatentType: String, Sendable, Equatable, CaseIterable {
  /// float32, 4 bytes a latent.
  case f32
  /// binary16, 2 bytes a latent.
  case f16
  /// 8-bit codes.
  case eightBit = "8"
  /// 4-bit codes, two a byte.
  case fourBit = "4"
  /// 3-bit codes, eight in three bytes.
  case threeBit = "3"
  /// 2-bit codes, four a byte.
  case twoBit = "2"

  /// - Parameter bits: 2, 3, 4 or 8 for packed codes, 16 or 32 for floats.
  /// - Throws: ``QuantError`` `.invalidArgument` for any other number.
  public init(bits: Int) throws(QuantError) {
    guard let type = Self.allCases.first(where: { $0.bits == bits }) else {
      throw QuantError(
        .invalidArgument, "latent bits", "\(bits) is none of 2, 3, 4, 8, 16, 32",
        remedy: "choose one of these")
    }
    self = type
  }

  /// Bits of a number.
  public var bits: Int { Int(qk_latent_bits(kernelType)) }

  /// Whether numbers are codes with a scale and a minimum.
  public var isPacked: Bool { bits <= 8 }

  /// Bytes of a token's `width` latents of one group, scale and minimum counted.
  public func bytes(width: Int) -> Int { qk_latent_block_bytes(kernelType, width) / Self.block }

  var kernelType: qk_latent_type {
    switch self {
    case .f32: QK_LATENT_FLOAT
    case .f16: QK_LATENT_HALF
    case .eightBit: QK_LATENT_8
    case .fourBit: QK_LATENT_4
    case .threeBit: QK_LATENT_3
    case .twoBit: QK_LATENT_2
    }
  }

  /// Positions of a block, the unit in which kernels read.
  static let block = Int(QK_LATENT_BLOCK)

  /// The largest magnitude that can be stored.
  var largestStorable: Float {
    switch self {
    case .f32: .greatestFiniteMagnitude
    case .f16: Float(65520).nextDown
    default: 65504
    }
  }
}
