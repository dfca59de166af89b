import CQuantKernels

/// A ternary weight matrix `rows × columns` (`outFeatures × inFeatures`) packed once for one
/// instruction set's kernels.
///
/// A product is BitNet b1.58's, but for the two lossy formats: each token is quantized to int8 by its own largest magnitude, sums
/// are exact integers, and an output is
///
///     Float(Int32 sum of weight · code) · (weight scale / token scale)
///
/// with each operation on floats rounded once, so that every instruction set, number of rows,
/// number of threads and lossless format gives the same bits. A token with NaN or infinity has
/// outputs that are all NaN; other tokens are not touched by it. A token of zeros gives 0, and a
/// weight scale of 0 gives 0 with the sum's sign (+0 where that is 0).
public final class PackedTernary: @unchecked Sendable {
  /// How codes are stored and multiplied.
  public enum Format: String, Sendable, CaseIterable {
    /// 2 bits a weight in the order of the instruction's fragment.
    case twoBit = "ternary"
    /// Five weights in a byte, 1.6 bits each, in the same order.
    case fiveTrit = "ternary-dense"
    /// Pairs of weights index tables of 16-bit sums (2 bits a weight).
    case lookupPairs = "tl1"
    /// Triples of weights with their sign apart index tables of 16-bit sums (1.67 bits).
    case lookupTriples = "tl2"
    /// As ``lookupPairs``, with the tables rounded to 8 bits: lossy.
    case lookupRoundedPairs = "tl1-lossy"
    /// As ``twoBit``, with a scale for each 256 activations of a token instead of one, as
    /// llama.cpp's TQ types have it (Q8_K): lossy.
    case blockQuantized = "q8_k-lossy"

    /// Whether products are those of the network's training: one scale a token and exact sums.
    public var isLossless: Bool { self != .lookupRoundedPairs && self != .blockQuantized }
  }

  /// Outputs (N).
  public let rows: Int
  /// Inputs (K).
  public let columns: Int
  /// How the codes are held.
  public let format: Format
  /// The instruction set whose order the codes are in.
  public let instructionSet: InstructionSet
  /// Bytes of codes that one product with a single row reads, padding included.
  public let byteCount: Int

  let panelStride: Int
  /// Vectors (or units, of the lookup formats) of a panel.
  let vectors: Int
  let storage: AlignedBuffer
  /// A scale for each output of every panel.
  let scales: AlignedBuffer
  let kernels: UnsafePointer<qk_ternary_table>
  let lookups: UnsafePointer<qk_lookup_table>

  static let panelRows = Int(QK_TERNARY_PANEL)
  /// The largest K whose sums are certain to fit 32 bits: 2 · 128 · K < 2³¹.
  public static let maximumColumns = Int(QK_TERNARY_MAX_COLUMNS)

  /// Panels of 16 outputs, the last padded.
  var panels: Int { (rows + PackedTernary.panelRows - 1) / PackedTernary.panelRows }
  /// K of a chunk of activations.
  var chunkColumns: Int { Int(QK_TERNARY_STEPS) * Int(kernels.pointee.step) }
  var chunks: Int { (columns + chunkColumns - 1) / chunkColumns }

  /// Bits that a weight takes, padding included; 0 for an empty matrix.
  public var bitsPerWeight: Double {
    rows == 0 || columns == 0 ? 0 : Double(byteCount) * 8 / (Double(rows) * Double(columns))
  }

  /// The name of the kernel that a product of `count` rows runs, by the C target's grammar.
  public func kernelName(count: Int) -> String {
    "qk_\(count == 1 ? "gemv" : "gemm")_\(format.rawValue)_int8__\(instructionSet.rawValue)"
  }

  init(
    rows: Int, columns: Int, format: Format, instructionSet: InstructionSet
  ) throws(QuantError) {
    let subject = "ternary weights \(rows)×\(columns)"
    guard rows >= 0, columns >= 0, rows <= 1 << 40 else {
      throw QuantError(
        .invalidArgument, subject, "no such shape",
        remedy: "pass numbers of outputs and inputs that are not negative")
    }
    guard columns <= PackedTernary.maximumColumns else {
      throw QuantError(
        .invalidArgument, subject,
        "sums of more than \(PackedTernary.maximumColumns) products may not fit 32 bits",
        remedy: "split the matrix along its inputs and add the parts' outputs")
    }
    guard instructionSet.isSupported,
      let kernels = qk_ternary_kernels(instructionSet.kernelTableIdentifier),
      let lookups = qk_lookup_kernels(instructionSet.kernelTableIdentifier)
    else {
      throw QuantError(
        .unsupported, subject, "this processor does not run \(instructionSet.rawValue)",
        remedy: "use one of \(InstructionSet.supported.map(\.rawValue).joined(separator: ", "))")
    }
    self.rows = rows
    self.columns = columns
    self.format = format
    self.instructionSet = instructionSet
    self.kernels = kernels
    self.lookups = lookups
    let step = Int(kernels.pointee.step)
    if let lookup = format.lookup {
      let unit = qk_lookup_unit_columns(lookup)
      vectors = (columns + unit - 1) / unit
      panelStride = vectors * qk_lookup_unit_bytes(lookup)
    } else {
      let width = Int(qk_ternary_steps(format.panel)) * step
      vectors = (columns + width - 1) / width
      panelStride =
        Int(qk_ternary_head(format.panel)) + vectors * PackedTernary.panelRows * step
    }
    let panels = (rows + PackedTernary.panelRows - 1) / PackedTernary.panelRows
    let (bytes, overflow) = panels.multipliedReportingOverflow(by: panelStride)
    guard !overflow, bytes < Int.max / 4 else {
      throw QuantError(
        .outOfMemory, subject, "its size overflows", remedy: "split the matrix along its outputs")
    }
    byteCount = bytes
    // Kernels may prefetch past the end, which is harmless, but never load there.
    storage = try WeightArena.shared.allocate(bytes, for: subject)
    scales = try AlignedBuffer(count: 4 * PackedTernary.panelRows * panels, for: subject)
  }

  func panelBytes(_ panel: Int) -> UnsafeMutablePointer<UInt8> {
    (storage.base + panel * panelStride).assumingMemoryBound(to: UInt8.self)
  }

  var scaleValues: UnsafeMutablePointer<Float> { scales.base.assumingMemoryBound(to: Float.self) }

  /// Outputs of panels `range`, without the padding of the last.
  func outputs(_ range: Range<Int>) -> Int {
    min(rows - range.lowerBound * PackedTernary.panelRows, range.count * PackedTernary.panelRows)
  }
}

extension PackedTernary.Format {
  /// The kernels' format; meaningless for lookup formats.
  var panel: qk_ternary_format { self == .fiveTrit ? QK_T5 : QK_T2 }

  var lookup: qk_lookup_format? {
    switch self {
    case .twoBit, .fiveTrit, .blockQuantized: nil
    case .lookupPairs: QK_TL1
    case .lookupTriples: QK_TL2
    case .lookupRoundedPairs: QK_TL1_FAST
    }
  }
}
