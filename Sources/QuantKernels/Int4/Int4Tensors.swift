/// The tensors of one int4 layer as the public tools store them, with their shapes; K inputs, N
/// outputs, groups of G.
///
///     format         weights (int32)   zeroPoints (int32)   scales (binary16)   groupIndices (int32)
///     awq            [K, N/8]          [K/G, N/8]           [K/G, N]
///     gptq, gptqV2   [K/8, N]          [K/G, N/8]           [K/G, N]            [K], or absent
///     quick          [K/4, N/2]        [K/G, N/4]           [K/G, 2N]
///     marlin         [K/16, 2N]        absent (all 8)       [K/G, N], permuted
///
/// Words are the bit patterns of the files' int32.
public struct Int4Tensors: Sendable, Equatable {
  /// Whose tensors they are.
  public enum Format: String, Sendable, CaseIterable {
    /// AutoAWQ's GEMM order.
    case awq
    /// GPTQ with zero points stored minus one, as its first tools did (`checkpoint_format: gptq`).
    case gptq
    /// GPTQ with zero points stored as they are (`checkpoint_format: gptq_v2`).
    case gptqV2
    /// SqueezeBits' QUICK.
    case quick
    /// IST-DASLab's Marlin.
    case marlin
  }

  /// The tool's format.
  public let format: Format
  /// Outputs, N.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// Inputs that share a scale, G.
  public let groupSize: Int
  /// `qweight` (Marlin: `B`).
  public let weights: [UInt32]
  /// Its two extents.
  public let weightShape: [Int]
  /// Binary16 bits.
  public let scales: [UInt16]
  /// Extents of `scales` (Marlin: `s`).
  public let scaleShape: [Int]
  /// Empty for Marlin.
  public let zeroPoints: [UInt32]
  /// Extents of `qzeros`; empty for Marlin.
  public let zeroPointShape: [Int]
  /// GPTQ's `g_idx`: the group of each input; nil means k div G.
  public let groupIndices: [Int32]?

  /// Derives K, N and G from the shapes and checks that everything agrees.
  ///
  /// - Throws: ``QuantError`` when a shape has not two positive extents, does not fit the others or
  ///   its data, or the format does not allow it.
  public init(
    format: Format, weights: [UInt32], weightShape: [Int], scales: [UInt16], scaleShape: [Int],
    zeroPoints: [UInt32] = [], zeroPointShape: [Int] = [], groupIndices: [Int32]? = nil
  ) throws(QuantError) {
    let subject = "\(format.rawValue) tensors"
    func invalid(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, subject, problem,
        remedy: "check that the file is in this format and that its tensors belong together")
    }
    guard weightShape.count == 2, scaleShape.count == 2, weightShape.allSatisfy({ $0 > 0 }),
      scaleShape.allSatisfy({ $0 > 0 })
    else { throw invalid("weights \(weightShape) and scales \(scaleShape) need two extents each") }
    // Extents of a tensor with this many elements cannot overflow when multiplied by 16.
    guard weights.count < 1 << 50, Self.count(weightShape) == weights.count else {
      throw invalid("\(weights.count) weight words do not fill \(weightShape)")
    }
    guard Self.count(scaleShape) == scales.count else {
      throw invalid("\(scales.count) scales do not fill \(scaleShape)")
    }
    let (rows, columns) =
      switch format {
      case .awq: (weightShape[1] * 8, weightShape[0])
      case .gptq, .gptqV2: (weightShape[1], weightShape[0] * 8)
      case .quick: (weightShape[1] * 2, weightShape[0] * 4)
      case .marlin: (weightShape[1] / 2, weightShape[0] * 16)
      }
    let groups = scaleShape[0]
    guard scaleShape[1] == (format == .quick ? 2 * rows : rows),
      format != .marlin || weightShape[1] % 2 == 0
    else { throw invalid("scales \(scaleShape) do not fit weights \(weightShape)") }
    guard columns % groups == 0 else {
      throw invalid("\(groups) groups do not divide \(columns) inputs")
    }
    if format == .marlin {
      guard zeroPoints.isEmpty else { throw invalid("Marlin has no zero points") }
    } else {
      guard rows % 8 == 0 else {
        throw invalid("\(rows) outputs; a word of zero points holds eight")
      }
      let wanted = [groups, format == .quick ? rows / 4 : rows / 8]
      guard zeroPointShape == wanted, Self.count(wanted) == zeroPoints.count else {
        throw invalid("zero points \(zeroPointShape) (\(zeroPoints.count)) where \(wanted) belongs")
      }
    }
    if let indices = groupIndices {
      guard format == .gptq || format == .gptqV2 else {
        throw invalid("only GPTQ has group indices")
      }
      guard indices.count == columns else {
        throw invalid("\(indices.count) group indices for \(columns) inputs")
      }
    }
    self.format = format
    self.rows = rows
    self.columns = columns
    groupSize = columns / groups
    self.weights = weights
    self.weightShape = weightShape
    self.scales = scales
    self.scaleShape = scaleShape
    self.zeroPoints = zeroPoints
    self.zeroPointShape = format == .marlin ? [] : zeroPointShape
    self.groupIndices = groupIndices
  }

  private static func count(_ shape: [Int]) -> Int? {
    let (product, overflow) = shape[0].multipliedReportingOverflow(by: shape[1])
    return overflow ? nil : product
  }

  /// The orders of weights, scales and zero points of a format.
  struct Layouts {
    let weights: InterleavedLayout
    let scales: InterleavedLayout
    let zeroPoints: InterleavedLayout?

    init(_ format: Format, rows: Int, columns: Int, groups: Int) throws(QuantError) {
      switch format {
      case .awq:
        weights = try .awq(rows: rows, columns: columns)
        scales = try .columnMajor(rows: rows, columns: groups, elementBits: 16)
        zeroPoints = try .awq(rows: rows, columns: groups)
      case .gptq, .gptqV2:
        weights = try .gptq(rows: rows, columns: columns)
        scales = try .columnMajor(rows: rows, columns: groups, elementBits: 16)
        zeroPoints = try .gptqZeroPoints(rows: rows, groups: groups)
      case .quick:
        weights = try .quick(rows: rows, columns: columns, padding: .extended)
        scales = try .quickScales(rows: rows, groups: groups, padding: .extended)
        zeroPoints = try .quickZeroPoints(rows: rows, groups: groups, padding: .extended)
      case .marlin:
        weights = try .marlin(rows: rows, columns: columns)
        scales = try .marlinScales(rows: rows, groups: groups)
        zeroPoints = nil
      }
    }
  }
}
