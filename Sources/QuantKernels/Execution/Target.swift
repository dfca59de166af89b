import DeviceModel

/// Where an operation runs.
public enum Target: Sendable {
  /// This CPU, in the fast arithmetic.
  case cpu(WorkerPool)
  /// A simulated GPU.
  case gpu(SimulatedGPU)

  /// This CPU, all cores.
  public static var cpu: Target { .cpu(.standard) }

  /// A simulated GPU that multiplies with `kernel`.
  ///
  /// - Parameters:
  ///   - splits: blocks that share an output along K; nil for the kernel's own rule.
  ///   - simulator: bank policy, checks and threads.
  public static func gpu(
    kernel: GPUKernel, splits: Int? = nil, simulator: WarpSimulator = WarpSimulator()
  ) -> Target {
    .gpu(SimulatedGPU(kernel: kernel, splits: splits, simulator: simulator))
  }
}

/// Kernels of a matrix product on a simulated GPU, as the command line spells them.
public enum GPUKernel: String, Sendable, Hashable, CaseIterable {
  /// AutoAWQ's: weights dequantized into shared memory.
  case awq
  /// QUICK's: weights interleaved for the tensor core's registers.
  case quick
  /// Our own: ``ImprovedQuickGemm``.
  case quickImproved = "quick-improved"
}

/// How a simulated GPU runs a product.
public struct SimulatedGPU: Sendable {
  /// The product's kernel.
  public var kernel: GPUKernel
  /// Blocks that share an output along K, 1…1024; nil for the kernel's own rule.
  public var splits: Int?
  /// Bank policy, checks and threads.
  public var simulator: WarpSimulator

  /// A way to run.
  public init(
    kernel: GPUKernel, splits: Int? = nil, simulator: WarpSimulator = WarpSimulator()
  ) {
    self.kernel = kernel
    self.splits = splits
    self.simulator = simulator
  }

  /// Splits of an N × K layer where none are asked for: QUICK's rule, 8 when N ≤ K and 2 otherwise,
  /// AutoAWQ's 8. Source: SqueezeBits/QUICK `quick/awq/models/base.py`, which takes 16 on an A100.
  public func splits(rows: Int, columns: Int) -> Int {
    if let splits { return splits }
    switch kernel {
    case .awq: return 8
    case .quick, .quickImproved: return rows <= columns ? 8 : 2
    }
  }
}
