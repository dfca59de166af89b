import CQuantKernels

/// Scratch memory of ``Attention``: one call at a time.
///
/// It grows to the largest call and is then reused. A decode step's room is reserved for the
/// cache's whole capacity at the first step, so that later steps allocate nothing.
public final class AttentionWorkspace: @unchecked Sendable {
  /// The level that calls with this workspace run on.
  public let instructionSet: InstructionSet
  let kernels: UnsafePointer<qk_attention_kernels>
  private var workers: AlignedBuffer?
  private var partials: AlignedBuffer?

  public init(instructionSet: InstructionSet = .best) {
    self.instructionSet = instructionSet
    kernels = qk_attention_kernels_for(instructionSet.kernelTableIdentifier)
  }

  func reserveWorkers(floats: Int) throws(QuantError) -> UnsafeMutablePointer<Float> {
    try Self.reserve(&workers, floats)
  }

  func reservePartials(floats: Int) throws(QuantError) -> UnsafeMutablePointer<Float> {
    try Self.reserve(&partials, floats)
  }

  private static func reserve(
    _ buffer: inout AlignedBuffer?, _ floats: Int
  ) throws(QuantError) -> UnsafeMutablePointer<Float> {
    if let buffer, buffer.count >= 4 * floats {
      return buffer.base.assumingMemoryBound(to: Float.self)
    }
    buffer = nil
    let fresh = try AlignedBuffer(count: 4 * floats, for: "workspace of an attention")
    buffer = fresh
    return fresh.base.assumingMemoryBound(to: Float.self)
  }
}
