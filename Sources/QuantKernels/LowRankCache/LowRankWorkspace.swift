import CQuantKernels

/// Scratch memory of ``LowRankAttention``: one call at a time.
///
/// It grows to the largest call and is then reused; a decode step's room is reserved for the cache's
/// whole capacity at the first step, so that later steps allocate nothing. But for the states of runs
/// of 1024 positions, which a decode step merges, nothing grows with the positions, and no key or
/// value is ever written out at full length.
public final class LowRankWorkspace: @unchecked Sendable {
  /// The level that calls with this workspace run on.
  public let instructionSet: InstructionSet
  /// What the last call did.
  public internal(set) var counters = LowRankCounters()
  let kernels: UnsafePointer<qk_latent_kernels>
  let states: UnsafePointer<qk_attention_kernels>
  private var buffers: [Part: AlignedBuffer] = [:]

  /// What the memory is for.
  enum Part { case workers, queries, runs, seen, counters }

  /// Memory for one caller at a time; it grows on first use and is kept.
  public init(instructionSet: InstructionSet = .best) {
    self.instructionSet = instructionSet
    kernels = qk_latent_kernels_for(instructionSet.kernelTableIdentifier)
    states = qk_attention_kernels_for(instructionSet.kernelTableIdentifier)
  }

  /// Room for `bytes`, whatever they held before.
  func reserve(_ part: Part, bytes: Int) throws(QuantError) -> UnsafeMutableRawPointer {
    if let buffer = buffers[part], buffer.count >= bytes { return buffer.base }
    buffers[part] = nil
    let fresh = try AlignedBuffer(count: bytes, for: "workspace of a low-rank attention")
    buffers[part] = fresh
    return fresh.base
  }

  /// Bytes held now.
  public var byteCount: Int { buffers.values.reduce(0) { $0 + $1.count } }
}
