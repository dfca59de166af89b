import CQuantKernels

/// Memory for the latents of one attention layer of many sequences, in pages of equal size that the
/// page tables of ``LowRankCache`` name; several tables may name the same page (a shared prefix).
public final class LowRankPool: @unchecked Sendable {
  /// The factors that latents are read by.
  public let layer: LowRankLayer
  /// How latents of keys, or whole keys, are stored.
  public let keyType: LatentType
  /// How latents of values are stored.
  public let valueType: LatentType
  /// Positions of a page.
  public let pageSize: Int
  /// Pages.
  public let pageCount: Int
  /// The kernels' instruction set, which decides the order of a page's bytes.
  public let instructionSet: InstructionSet
  let pages: LatentPages
  let buffer: AlignedBuffer

  /// Bytes set aside for latents.
  public var byteCount: Int { buffer.count }
  /// Bytes that one position takes, scales and minima counted: Σ over groups of `⌈r·b/8⌉ + 4`.
  public var bytesPerPosition: Int { pages.bytesPerPosition }

  /// - Parameters:
  ///   - keyType: how latents of keys, or whole keys, are stored; `valueType` those of values.
  ///   - pageSize: positions of a page, a multiple of 16 up to 2³¹.
  ///   - pageCount: pages, 1 to 2³¹ − 1.
  ///   - layer: the layer's factors.
  ///   - valueType: how latents of values are stored.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that are no sizes, `.outOfMemory`.
  public init(
    layer: LowRankLayer, keyType: LatentType, valueType: LatentType, pageSize: Int,
    pageCount: Int, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    guard 1...Int(Int32.max) + 1 ~= pageSize, pageSize % LatentType.block == 0,
      1...Int(Int32.max) ~= pageCount
    else {
      throw QuantError(
        .invalidArgument, "low-rank cache", "\(pageCount) pages of \(pageSize) positions",
        remedy: "use at least 1 page, of a multiple of 16 positions")
    }
    self.layer = layer
    self.keyType = keyType
    self.valueType = valueType
    self.pageSize = pageSize
    self.pageCount = pageCount
    self.instructionSet = instructionSet
    pages = try LatentPages(
      keyType: keyType, keyWidths: layer.keyWidths, valueType: valueType,
      valueWidths: layer.valueWidths, blocksPerPage: pageSize / LatentType.block)
    let (all, overflows) = pages.pageBytes.multipliedReportingOverflow(by: pageCount)
    guard !overflows else {
      throw QuantError(
        .outOfMemory, "low-rank cache", "\(pageCount) pages of \(pages.pageBytes) bytes",
        remedy: "use fewer pages")
    }
    buffer = try AlignedBuffer(count: all, for: "low-rank cache")
  }
}
