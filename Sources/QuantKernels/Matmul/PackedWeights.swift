import CQuantKernels

/// The arithmetic of a product.
public enum Arithmetic: String, Sendable, CaseIterable {
  /// Activations quantised to int8 per group of 32, integer dot products, float32 scales.
  case fast
  /// Activations float32, weights dequantised to float32, ascending-k fused multiply-add per
  /// output.
  case exact
}

/// A weight matrix `rows × columns` (`outFeatures × inFeatures`) packed once for one instruction
/// set's kernels.
///
/// Panels of 16 outputs follow one another; in a panel the quantisation groups stand in ascending
/// k, each with its scales before its codes, so that a product with one row reads every byte once,
/// forwards.
public final class PackedWeights: @unchecked Sendable {
  /// Outputs (N).
  public let rows: Int
  /// Inputs (K).
  public let columns: Int
  /// The stored format as GGUF tools call it (`Q4_1`, `F16`), or `INT4` with its group size.
  public let typeName: String
  /// Bytes that one product with a single row reads, padding of the last panel included.
  public let byteCount: Int
  /// The instruction set whose order the weights are in.
  public let instructionSet: InstructionSet
  /// Act-order: input element `inputPermutation[j]` multiplies column j.
  public let inputPermutation: [Int32]?

  let format: qk_format
  /// Blocks (quantisation groups) of a panel and groups of 32 in each.
  let blocks: Int
  let subgroups: Int
  let panelStride: Int
  let storage: AlignedBuffer
  let kernels: UnsafePointer<qk_matmul_table>

  /// Panels of 16 outputs, the last padded with zeros.
  var panels: Int { (rows + PackedWeights.panelRows - 1) / PackedWeights.panelRows }
  /// K rounded up to whole groups of 32.
  var paddedColumns: Int { blocks * subgroups * 32 }

  static let panelRows = Int(QK_PANEL)

  /// The integer that codes are stored above, so that they are unsigned; for formats with a minimum
  /// what starts the signed kernels' integers.
  var zero: Int32 { qk_zero(format) }

  var isDense: Bool { format == QK_F16 || format == QK_BF16 || format == QK_F32 }
  var isKQuant: Bool { format == QK_Q4_K || format == QK_Q5_K || format == QK_Q6_K }

  /// The name of the kernel that a product of `count` rows runs, by the C target's grammar.
  public func kernelName(count: Int, arithmetic: Arithmetic = .fast) -> String {
    let weights = typeName.lowercased()
    let isa = instructionSet.rawValue
    if isDense || arithmetic == .exact {
      return "qk_\(count == 1 ? "gemv" : "gemm")_\(weights)_float32__\(isa)"
    }
    return "qk_\(count == 1 ? "gemv" : "gemm")_\(weights)_int8__\(isa)"
  }

  init(
    rows: Int, columns: Int, typeName: String, format: qk_format, blocks: Int, subgroups: Int,
    instructionSet: InstructionSet, inputPermutation: [Int32]?, name: String
  ) throws(QuantError) {
    let subject = "weights \(name)"
    guard rows > 0, columns > 0, blocks > 0, rows <= 1 << 40, columns <= 1 << 40 else {
      throw QuantError(
        .invalidArgument, subject, "shape \(rows)×\(columns)",
        remedy: "pass a positive number of outputs and inputs")
    }
    guard instructionSet.isSupported,
      let kernels = qk_matmul_kernels(instructionSet.kernelTableIdentifier)
    else {
      throw QuantError(
        .unsupported, subject, "this processor does not run \(instructionSet.rawValue)",
        remedy: "use one of \(InstructionSet.supported.map(\.rawValue).joined(separator: ", "))")
    }
    self.rows = rows
    self.columns = columns
    self.typeName = typeName
    self.format = format
    self.blocks = blocks
    self.subgroups = subgroups
    self.instructionSet = instructionSet
    self.inputPermutation = inputPermutation
    self.kernels = kernels
    panelStride = blocks * qk_block_bytes(format, subgroups)
    let panels = (rows + PackedWeights.panelRows - 1) / PackedWeights.panelRows
    let (bytes, overflow) = panels.multipliedReportingOverflow(by: panelStride)
    guard !overflow else {
      throw QuantError(
        .outOfMemory, subject, "its size overflows", remedy: "split the matrix along its outputs")
    }
    byteCount = bytes
    // Kernels may prefetch past the end, which is harmless, but never load there.
    storage = try WeightArena.shared.allocate(bytes, for: subject)
  }
}
