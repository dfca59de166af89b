import CQuantKernels

/// Scratch memory of ``Attention``: one call at a time.
///
/// It grows to the largest call and is then reused. A decode step's room is reserved for the
/// cache's whole capacity at the first step, so that later steps allocate nothing.
public final class AttentionWorkspace: @unchecked Sendable {
  /// The level that calls with this workspace run on.
  public let instructionSet: InstructionSet
  let kernels: UnsafePointer<qk_attention_kernels>
  /// Nil where this level or processor multiplies no pairs of bfloat16.
  let pairs: UnsafePointer<qk_attention_pairs>?
  private var buffers: [Part: AlignedBuffer] = [:]

  /// What the memory is for.
  enum Part { case workers, partials, ranges, positions, slopes, sinks }

  /// Memory for one caller at a time; it grows on first use and is kept.
  public init(instructionSet: InstructionSet = .best) {
    self.instructionSet = instructionSet
    kernels = qk_attention_kernels_for(instructionSet.kernelTableIdentifier)
    pairs = qk_attention_pairs_for(instructionSet.kernelTableIdentifier)
  }

  /// What calls that ask for `wanted` multiply in, over a cache of a type: bfloat16 only where the
  /// level and the processor have an instruction for it and the type is one of floats.
  public func products(
    _ wanted: AttentionOptions.Products, for type: KeyValueType
  ) -> AttentionOptions.Products {
    pairs != nil && type.isFloat ? wanted : .float32
  }

  /// Room for `count` values, whatever they held before.
  func reserve<Element>(
    _ part: Part, _ count: Int, of type: Element.Type
  ) throws(QuantError) -> UnsafeMutablePointer<Element> {
    let bytes = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    let wanted = bytes.overflow ? Int.max : bytes.partialValue
    if let buffer = buffers[part], buffer.count >= wanted {
      return buffer.base.assumingMemoryBound(to: type)
    }
    buffers[part] = nil
    let fresh = try AlignedBuffer(count: wanted, for: "workspace of an attention")
    buffers[part] = fresh
    return fresh.base.assumingMemoryBound(to: type)
  }

  /// Bytes held now.
  public var byteCount: Int { buffers.values.reduce(0) { $0 + $1.count } }
}
