import CQuantKernels

/// A level of instruction sets that kernels are written for, in ascending order on each
/// architecture.
public enum InstructionSet: String, Sendable, CaseIterable {
  /// Portable C: the definition that all others are tested against.
  case scalar
  /// x86-64 with AVX2, FMA and F16C.
  case avx2
  /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI.
  case avx512vnni
  /// arm64 with the dot-product instructions `sdot` and `udot`.
  case neonDotprod
  /// arm64 with the matrix instructions `smmla` and `usmmla`.
  case neonI8mm

  private var identifier: qk_isa {
    switch self {
    case .scalar: QK_ISA_SCALAR
    case .avx2: QK_ISA_AVX2
    case .avx512vnni: QK_ISA_AVX512VNNI
    case .neonDotprod: QK_ISA_NEON_DOTPROD
    case .neonI8mm: QK_ISA_NEON_I8MM
    }
  }

  /// Whether this processor can run it (a fact of the hardware; `QK_MAX_ISA` does not change it).
  public var isSupported: Bool { qk_isa_supported(identifier) != 0 }

  /// What kernels use by default: the highest supported level, capped by the environment variable
  /// `QK_MAX_ISA` (a name of this enumeration), which is read once.
  public static let best: InstructionSet = {
    let level = qk_isa_best()
    return allCases.first { $0.identifier == level } ?? .scalar
  }()

  /// The levels that this processor runs, the scalar reference first.
  public static var supported: [InstructionSet] { allCases.filter(\.isSupported) }

  package var kernelTableIdentifier: qk_isa { identifier }
}
