import DeviceModel

/// Byte offsets of a warp's lanes in a buffer: vectors made once from a layout, and the strides by
/// which they step. Nothing on the way knows the layout's closed form.
struct LaneOffsets: Sendable {
  /// Offsets of output tile 0, step or group 0, one vector an access.
  let origins: [Lanes<UInt32>]
  /// Bytes from one 128-output tile to the next.
  let tileStride: UInt32
  /// Bytes from one step (weights) or group (scales) to the next.
  let stepStride: UInt32

  /// - Parameters:
  ///   - layout: a layout whose outer digits are linear in 128 outputs and in `stepColumns` inputs,
  ///     as those of every order here are.
  ///   - accesses: how many accesses a warp makes in one step.
  ///   - place: the output and input of the first element that a lane wants in an access; it must
  ///     start a byte.
  init(
    _ layout: InterleavedLayout, stepColumns: Int, accesses: Int,
    _ place: (_ access: Int, _ lane: Int) -> (row: Int, column: Int)
  ) {
    origins = (0..<accesses).map { access in
      Lanes<UInt32>.each { lane in
        let at = place(access, Int(lane))
        return UInt32(truncatingIfNeeded: layout.byteOffset(row: at.row, column: at.column))
      }
    }
    func stride(row: Int, column: Int) -> UInt32 {
      guard row < layout.paddedRows, column < layout.paddedColumns else { return 0 }
      return UInt32(
        truncatingIfNeeded: layout.byteOffset(row: row, column: column)
          - layout.byteOffset(row: 0, column: 0))
    }
    tileStride = stride(row: SplitKGrid.outputs, column: 0)
    stepStride = stride(row: 0, column: stepColumns)
  }

  /// What to add to the origins for a tile and a step.
  @inline(__always)
  func base(tile: Int, step: Int) -> UInt32 {
    tileStride &* UInt32(truncatingIfNeeded: tile)
      &+ stepStride &* UInt32(truncatingIfNeeded: step)
  }

  @inline(__always)
  subscript(access: Int, base: UInt32) -> Lanes<UInt32> {
    origins[access].moved(by: Int(base))
  }
}

/// Byte addresses of a tile in shared memory, vectors made once from the tile's layout.
enum TileAddresses {
  /// One vector from the layout's own answer for each lane.
  static func lanes(
    _ layout: some TileLayout, _ place: (_ lane: Int) -> (row: Int, column: Int)
  ) -> Lanes<UInt32> {
    Lanes<UInt32>.each { lane in
      let at = place(Int(lane))
      return UInt32(truncatingIfNeeded: layout.byteOffset(row: at.row, column: at.column))
    }
  }

  /// The 16-byte stores of a tile of activations, `[row block of 16][warp]`: a warp's lanes cover 8
  /// rows of 32 inputs.
  static func activationStores(_ layout: some TileLayout) -> [[Lanes<UInt32>]] {
    (0..<layout.rows / 16).map { block in
      (0..<2).map { warp in
        lanes(layout) { (16 * block + 8 * warp + $0 / 4, 8 * ($0 % 4)) }
      }
    }
  }

  /// The `ldmatrix.x4` of a tile of activations, `[row block of 16][k16]`: the A operand of
  /// `mma.m16n8k16`.
  static func activationLoads(_ layout: some TileLayout) -> [[Lanes<UInt32>]] {
    (0..<layout.rows / 16).map { block in
      (0..<2).map { half in
        lanes(layout) { (16 * block + $0 % 16, 16 * half + 8 * ($0 / 16)) }
      }
    }
  }
}

/// A warp's global loads of activations: lane ℓ of warp w reads inputs 8·(ℓ mod 4)… of row 8w + ℓ/4
/// of each 16.
struct ActivationOffsets: Sendable {
  /// Offsets of rows 0…15 at step 0, one vector a warp.
  let origins: [Lanes<UInt32>]
  let rowStride: UInt32
  let stepStride: UInt32

  /// - Parameter replicatesRow: all lanes read row 0 (QUICK's kernel for one row).
  init(_ layout: RowMajor, replicatesRow: Bool = false) {
    origins = (0..<2).map { warp in
      Lanes<UInt32>.each { lane in
        let row = replicatesRow ? 0 : 8 * warp + Int(lane) / 4
        return UInt32(
          truncatingIfNeeded: layout.byteOffset(row: row, column: 8 * (Int(lane) % 4)))
      }
    }
    rowStride = UInt32(
      truncatingIfNeeded: layout.byteOffset(row: 1, column: 0)
        - layout.byteOffset(row: 0, column: 0))
    stepStride = UInt32(truncatingIfNeeded: SplitKGrid.inputs * layout.elementBits / 8)
  }

  @inline(__always)
  func callAsFunction(warp: Int, row: Int, step: Int) -> Lanes<UInt32> {
    let base =
      rowStride &* UInt32(truncatingIfNeeded: row)
      &+ stepStride &* UInt32(truncatingIfNeeded: step)
    return origins[warp].moved(by: Int(base))
  }

  /// The lanes of a warp whose rows exist: of the 16 from `block · 16` on in a tile with `rows` rows.
  @inline(__always)
  static func mask(rows: Int, block: Int, warp: Int) -> LaneMask {
    .first(4 * (rows - 16 * block - 8 * warp))
  }
}
