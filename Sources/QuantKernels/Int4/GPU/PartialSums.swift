import DeviceModel

/// What a split-K kernel writes: binary16 `[splits × M, outputs]`, row-major, outputs padded to 128.
public struct PartialSums: Sendable {
  /// Rows of the product, M.
  public let rows: Int
  /// Outputs of the product, N; columns past them are padding.
  public let outputs: Int
  /// Splits of K.
  public let splits: Int
  /// Where each value stands: `splits · M` rows.
  public let layout: RowMajor
  /// The values.
  public let buffer: GlobalBuffer

  /// Offsets of a warp's accumulators at row 0, column 0 of a tile: `[warp][element]`.
  private let origins: [[Lanes<UInt32>]]

  /// - Throws: ``QuantError`` when the buffer passes 4 GiB.
  init(rows: Int, outputs: Int, paddedOutputs: Int, splits: Int) throws(QuantError) {
    self.rows = rows
    self.outputs = outputs
    self.splits = splits
    let (total, overflow) = rows.multipliedReportingOverflow(by: splits)
    let layout: RowMajor
    do {
      layout = try RowMajor(
        rows: overflow ? .max : total, columns: paddedOutputs, elementBits: 16)
    } catch {
      throw QuantError(.unsupported, "partial sums", error.problem, remedy: "multiply fewer rows")
    }
    self.layout = layout
    buffer = try QuantError.translating {
      try GlobalBuffer("partial sums", byteCount: layout.byteCount)
    }
    let fragment = Fragment.mmaM16N8K16C
    origins = (0..<2).map { warp in
      (0..<4).map { element in
        TileAddresses.lanes(layout) { lane in
          let at = fragment.coordinate(lane: lane, element: element)
          return (at.row, 64 * warp + at.column)
        }
      }
    }
  }

  /// A copy of one split's values, `[M × outputs]`, as bits.
  public func halves(split: Int = 0) -> [UInt16] {
    let all = buffer.contents(as: UInt16.self)
    var result: [UInt16] = []
    result.reserveCapacity(rows * outputs)
    for row in 0..<rows {
      let start = (split * rows + row) * layout.pitch
      result += all[start..<start + outputs]
    }
    return result
  }

  /// The same as floats.
  public func values(split: Int = 0) -> [Float] {
    halves(split: split).map { HalfPrecision.float(fromHalf: $0) }
  }

  private func base(_ place: SplitKGrid.Place, rowBlock: Int) -> UInt32 {
    UInt32(
      truncatingIfNeeded: layout.byteOffset(
        row: place.split * rows + place.row + 16 * rowBlock,
        column: SplitKGrid.outputs * place.outputTile))
  }

  /// The lanes whose row of the 16 exists: rows lane div 4 (upper false) or 8 further.
  private func mask(_ place: SplitKGrid.Place, rowBlock: Int, upper: Bool) -> LaneMask {
    .first(4 * (place.rows - 16 * rowBlock - (upper ? 8 : 0)))
  }

  /// Stores 16 rows of sums, half by half, as AWQ's kernel does.
  func storeHalves(
    _ sums: [FloatAccumulator], _ warp: inout Warp, _ place: SplitKGrid.Place, rowBlock: Int,
    site: Int
  ) throws(DeviceError) {
    let base = base(place, rowBlock: rowBlock)
    for (tile, sum) in sums.enumerated() {
      let column = base &+ UInt32(16 * tile)
      for element in 0..<4 {
        let value = Half2.pack(low: sum[element], high: Lanes<Float>())
        try warp.storeGlobal(
          value, bytes: 2, to: buffer,
          at: origins[warp.index][element].moved(by: Int(column)),
          mask: mask(place, rowBlock: rowBlock, upper: element >= 2), site: site)
      }
    }
    warp.count(.conversion, 4 * sums.count)
  }

  /// Stores 16 rows of sums, in pairs of columns, as QUICK's kernels do.
  ///
  /// - Parameter sums: eight n-tiles.
  /// - Parameter onlyRow: row 0 alone exists (QUICK's kernel for one row).
  func storePairs(
    _ sums: ArraySlice<FloatAccumulator>, _ warp: inout Warp, _ place: SplitKGrid.Place,
    rowBlock: Int, onlyRow: Bool = false, site: Int
  ) throws(DeviceError) {
    let base = base(place, rowBlock: rowBlock)
    for (tile, sum) in sums.enumerated() {
      let column = base &+ UInt32(16 * tile)
      for upper in onlyRow ? [false] : [false, true] {
        let value =
          upper
          ? Half2.pack(low: sum.c2, high: sum.c3)
          : Half2.pack(low: sum.c0, high: sum.c1)
        try warp.storeGlobal(
          value, to: buffer,
          at: origins[warp.index][upper ? 2 : 0].moved(by: Int(column)),
          mask: mask(place, rowBlock: rowBlock, upper: upper), site: site)
      }
    }
    warp.count(.conversion, (onlyRow ? 1 : 2) * sums.count)
  }
}
