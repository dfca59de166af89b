import CQuantKernels

/// Memory for the keys and values of one attention layer of many sequences, in pages of equal size
/// that ``PagedKeyValueCache`` tables name; several tables may name the same page (a shared
/// prefix).
///
/// Pages of a multiple of 16 positions hold blocks as kernels read them and cost a call nothing.
/// Pages of another size hold plain float32 or half-precision rows, which every call gathers into
/// blocks: correct, and slower.
public final class KeyValuePool: @unchecked Sendable {
  let shape: KeyValueShape
  /// Positions of a page.
  public let pageSize: Int
  /// Pages.
  public let pageCount: Int
  let pageBytes: Int
  let buffer: AlignedBuffer
  let instructionSet: InstructionSet

  /// How keys and values are stored.
  public var type: KeyValueType { shape.type }
  /// Key and value heads.
  public var keyValueHeads: Int { shape.heads }
  /// Elements of a key.
  public var headDimension: Int { shape.keyWidth }
  /// Elements of a value.
  public var valueDimension: Int { shape.valueWidth }
  /// Bytes of all pages.
  public var byteCount: Int { buffer.count }

  /// - Parameters:
  ///   - pageSize: positions of a page, 1 to 65536; a multiple of 16 for types other than f32 and
  ///     f16.
  ///   - pageCount: pages, 1 to 2³¹ − 1.
  ///   - type: how keys and values are stored.
  ///   - keyValueHeads: heads of keys and values.
  ///   - headDimension: elements of a head's key.
  ///   - valueDimension: elements of a head's value; nil: as many as of its key.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that are no sizes, `.unsupported` for
  ///   small pages of a type that has none, `.outOfMemory`.
  public init(
    type: KeyValueType, keyValueHeads: Int, headDimension: Int, valueDimension: Int? = nil,
    pageSize: Int, pageCount: Int, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    shape = try KeyValueShape(
      type: type, heads: keyValueHeads, keyWidth: headDimension,
      valueWidth: valueDimension ?? headDimension)
    guard 1...65536 ~= pageSize, 1...Int(Int32.max) ~= pageCount else {
      throw QuantError(
        .invalidArgument, "key-value pool", "\(pageCount) pages of \(pageSize) positions",
        remedy: "use at least 1 page, of 1 to 65536 positions")
    }
    let isSmall = pageSize % KeyValueShape.block != 0
    guard !isSmall || type == .f32 || type == .f16 else {
      throw QuantError(
        .unsupported, "key-value pool", "pages of \(pageSize) positions in \(type.rawValue)",
        remedy: "use pages of a multiple of 16 positions, or f32 or f16")
    }
    self.pageSize = pageSize
    self.pageCount = pageCount
    self.instructionSet = instructionSet
    if isSmall {
      pageBytes =
        pageSize * shape.heads * (shape.keyWidth + shape.valueWidth) * (type == .f32 ? 4 : 2)
    } else {
      pageBytes = try shape.bytes(
        blocks: pageSize / KeyValueShape.block, subject: "key-value pool")
    }
    let (all, overflows) = pageBytes.multipliedReportingOverflow(by: pageCount)
    guard !overflows else {
      throw QuantError(
        .outOfMemory, "key-value pool", "\(pageCount) pages of \(pageBytes) bytes",
        remedy: "use fewer pages")
    }
    buffer = try AlignedBuffer(count: all, for: "key-value pool")
  }

  var isSmall: Bool { pageSize % KeyValueShape.block != 0 }
}
