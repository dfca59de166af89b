/// An exclusive-or swizzle of element offsets, CuTe's `Swizzle<B, M, S>`: the `bits` offset bits at
/// `base + shift` are xored onto the `bits` bits at `base`.
///
/// It is its own inverse, hence a bijection. Halves in rows of 128, 64 and 32 bytes read 16-byte
/// columns without bank conflicts under `<3,3,3>`, `<2,3,3>` and `<1,3,3>`.
public struct Swizzle: Sendable, Hashable, CustomStringConvertible {
  /// B: how many bits are xored.
  public let bits: Int
  /// M: the lowest bit that changes.
  public let base: Int
  /// S: how far above it the bits stand that are xored onto it.
  public let shift: Int
  private let mask: Int

  /// - Throws: ``LayoutError`` when `bits` or `base` is negative, `shift` is below `bits` (the two
  ///   bit fields would overlap and the swizzle not be a bijection), or the fields pass bit 61.
  public init(_ bits: Int, _ base: Int, _ shift: Int) throws(LayoutError) {
    guard bits >= 0, base >= 0, shift >= bits, bits <= 61, base <= 61, shift <= 61,
      bits + base + shift <= 61
    else {
      throw LayoutError(
        "Swizzle<\(bits),\(base),\(shift)>",
        "needs bits, base ≥ 0, shift ≥ bits and a sum of at most 61")
    }
    self.bits = bits
    self.base = base
    self.shift = shift
    mask = ((1 << bits) - 1) << (base + shift)
  }

  /// The swizzled offset, in the same unit as the offset.
  public func callAsFunction(_ offset: Int) -> Int { offset ^ ((offset & mask) >> shift) }

  /// Offsets stay inside aligned runs of this many.
  public var window: Int { 1 << (base + bits) }

  /// `Swizzle<B,M,S>`.
  public var description: String { "Swizzle<\(bits),\(base),\(shift)>" }
}

/// A layout whose element offsets pass through a ``Swizzle``.
public struct Swizzled<Base: TileLayout>: TileLayout {
  /// The layout before the swizzle.
  public let layout: Base
  /// What its element offsets pass through.
  public let swizzle: Swizzle
  /// The layout's size rounded up to the swizzle's window.
  public let byteCount: Int

  /// - Throws: ``LayoutError`` when the size, rounded up to the swizzle's window, overflows.
  public init(_ layout: Base, _ swizzle: Swizzle) throws(LayoutError) {
    let (windowBits, overflow1) = swizzle.window.multipliedReportingOverflow(by: layout.elementBits)
    let (bits, overflow2) = layout.byteCount.multipliedReportingOverflow(by: 8)
    let (padded, overflow3) = bits.addingReportingOverflow(windowBits - 1)
    guard !overflow1, !overflow2, !overflow3 else {
      throw LayoutError("\(swizzle) of \(layout)", "its size overflows")
    }
    self.layout = layout
    self.swizzle = swizzle
    byteCount = (padded / windowBits * windowBits + 7) / 8
  }

  public var rows: Int { layout.rows }
  public var columns: Int { layout.columns }
  public var elementBits: Int { layout.elementBits }

  public func bitOffset(row: Int, column: Int) -> Int {
    let bits = layout.bitOffset(row: row, column: column)
    return swizzle(bits / elementBits) &* elementBits &+ bits % elementBits
  }

  /// `Swizzle<B,M,S>∘(…):(…)`.
  public var description: String { "\(swizzle)∘\(layout)" }
}

extension Swizzled: Equatable where Base: Equatable {}
extension Swizzled: Hashable where Base: Hashable {}
