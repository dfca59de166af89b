import DeviceModel

/// Kernels of attention on a simulated GPU, as the command line spells them.
public enum GPUAttentionKernel: String, Sendable, Hashable, CaseIterable {
  /// Scores and probabilities of size S_q · S_k in device memory: two products and a softmax.
  case unfused
  /// FlashAttention-2 on compute capability 8.0 and later: ``FlashAttentionKernel``.
  case flash
  /// The same on Volta, its operands in a layout of its own.
  case volta
  /// What xformers and PyTorch run on Volta: ``MemoryEfficientKernel``.
  case xformers

  /// - Throws: ``QuantError`` `.unsupported` when the device is not of the kernel's generation.
  func requireSupport(on device: DeviceSpec) throws(QuantError) {
    let capability = device.capability.value
    let isVolta = capability >= 7 && capability < 7.5
    let problem: (String, String)? =
      switch self {
      case .unfused where !isVolta && capability < 8:
        ("the kernel's products are Volta's or Ampere's", "choose a device of 7.0, 8.0 or later")
      case .flash where capability < 8:
        ("there is no mma.m16n8k16 and no asynchronous copy", "use the kernel volta")
      case .volta where !isVolta, .xformers where !isVolta:
        ("mma.m8n8k4 is fast on 7.0 alone", "use the kernel flash")
      default: nil
      }
    if let (problem, remedy) = problem {
      throw QuantError(
        .unsupported, "\(rawValue) on \(device.identifier)",
        "compute capability \(device.capability): \(problem)", remedy: remedy)
    }
  }
}
