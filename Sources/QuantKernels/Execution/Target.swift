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
  ///   - device: decides splits and grids, and gives the run a modelled time; without one there are
  ///     counters only.
  ///   - splits: blocks that share an output along K; nil for the kernel's own rule.
  ///   - simulator: bank policy, checks and threads.
  ///   - kernel: which kernel.
  public static func gpu(
    _ device: DeviceSpec? = nil, kernel: GPUKernel, splits: Int? = nil,
    simulator: WarpSimulator = WarpSimulator()
  ) -> Target {
    .gpu(SimulatedGPU(device, kernel: kernel, splits: splits, simulator: simulator))
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
  /// Marlin's: ``MarlinGemm``.
  case marlin
  /// Plain binary16 weights: ``HalfGemm``.
  case half = "fp16"
  /// BitNet's ternary weights and int8 activations: ``W2A8Gemv``.
  case w2a8
}

/// How a simulated GPU runs a product.
public struct SimulatedGPU: Sendable {
  /// The device; nil for none in particular, which has no time.
  public var device: DeviceSpec?
  /// The product's kernel.
  public var kernel: GPUKernel
  /// Blocks that share an output along K, 1…1024; nil for the kernel's own rule.
  public var splits: Int?
  /// Bank policy, checks and threads.
  public var simulator: WarpSimulator

  /// A way to run.
  public init(
    _ device: DeviceSpec? = nil, kernel: GPUKernel, splits: Int? = nil,
    simulator: WarpSimulator = WarpSimulator()
  ) {
    self.device = device
    self.kernel = kernel
    self.splits = splits
    self.simulator = simulator
  }

  /// Splits of an N × K layer: those asked for, else the kernel's rule (``GPUKernel``).
  public func splits(rows: Int, columns: Int) -> Int {
    splits ?? kernel.splits(rows: rows, columns: columns, on: device)
  }
}
