import DeviceModel

/// Adds the partial results of a split-K product: binary16 in, float32 sums in the order of the
/// splits, one rounding to binary16 at the end.
///
/// What `torch.Tensor.sum(0)` does for AutoAWQ and QUICK after their kernels. Eight values a lane,
/// eight warps a block.
public struct SplitKSum: WarpKernel {
  /// Nothing outlives the one interval.
  public struct Registers: Sendable {}

  /// What is added.
  public let partials: PartialSums
  /// The sums, binary16 `[M, outputs]`, laid out as one split of the partials.
  public let output: PartialSums

  private static let warps = 8
  private let units: Int
  private let lanes: Lanes<UInt32>
  private let splitBytes: UInt32

  /// A launch.
  ///
  /// - Throws: ``QuantError`` when the result's buffer cannot be made.
  public init(_ partials: PartialSums) throws(QuantError) {
    self.partials = partials
    output = try PartialSums(
      rows: partials.rows, outputs: partials.outputs, paddedOutputs: partials.layout.columns,
      splits: 1)
    units = output.layout.byteCount / 16
    let (layout, pitch) = (output.layout, output.layout.columns)
    lanes = Lanes<UInt32>.each { lane in
      let element = 8 * Int(lane)
      return UInt32(
        truncatingIfNeeded: layout.byteOffset(row: element / pitch, column: element % pitch))
    }
    splitBytes = UInt32(
      truncatingIfNeeded: partials.layout.byteOffset(row: partials.rows, column: 0))
  }

  public var name: String { "split-K sum" }
  public var sites: [String] { ["load partials", "store sums"] }
  public var blocks: Int { (units + 32 * Self.warps - 1) / (32 * Self.warps) }
  public var warpsPerBlock: Int { Self.warps }
  public var sharedBytesPerBlock: Int { 0 }
  public var blockClasses: [BlockClass] {
    let whole = units / (32 * Self.warps)
    var classes = whole > 0 ? [BlockClass(representative: 0, count: whole)] : []
    if whole < blocks { classes.append(BlockClass(representative: whole, count: 1)) }
    return classes
  }
  public func makeRegisters() -> Registers { Registers() }

  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let index = block.index
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      let first = (index * Self.warps + warp.index) * 32
      let mask = LaneMask.first(units - first)
      guard mask.rawValue != 0 else { return }
      let offsets = lanes.moved(by: 16 * first)
      var low = (Lanes<Float>(), Lanes<Float>(), Lanes<Float>(), Lanes<Float>())
      var high = low
      for split in 0..<partials.splits {
        let base = splitBytes &* UInt32(truncatingIfNeeded: split)
        let pairs: Registers4 = try warp.loadGlobal(
          from: partials.buffer, at: offsets.moved(by: Int(base)), mask: mask, site: 0)
        Self.add(pairs.r0, &low.0, &high.0)
        Self.add(pairs.r1, &low.1, &high.1)
        Self.add(pairs.r2, &low.2, &high.2)
        Self.add(pairs.r3, &low.3, &high.3)
      }
      let sums = Registers4(
        Half2.pack(low: low.0, high: high.0), Half2.pack(low: low.1, high: high.1),
        Half2.pack(low: low.2, high: high.2), Half2.pack(low: low.3, high: high.3))
      try warp.storeGlobal(sums, to: output.buffer, at: offsets, mask: mask, site: 1)
      warp.count(.conversion, 8 * partials.splits + 4)
      warp.count(.float, 8 * partials.splits)
    }
  }

  @inline(__always)
  private static func add(
    _ pairs: Lanes<UInt32>, _ low: inout Lanes<Float>, _ high: inout Lanes<Float>
  ) {
    let values = Half2.unpack(pairs)
    low = low.plus(values.low)
    high = high.plus(values.high)
  }
}
