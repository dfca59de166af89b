import DeviceModel

/// CUTLASS' order for Volta operands whose k is contiguous in device memory
/// (`VoltaTensorOpMultiplicandCrosswise` for 16-bit elements): vectors of four k, row beside row, so
/// that one 16-byte load brings rows r and r + 4.
///
/// Inside runs of 16 rows, row r stands at 4·(r mod 4) + (r div 4 mod 4), its bit 1 turned by bit 4 of
/// the row, xored with bits 1 and 2 of the vector's number.
///
/// Source: NVIDIA/cutlass `include/cutlass/layout/tensor_op_multiplicand_sm70.h`, rewritten.
struct CrosswiseTile: TileLayout, Hashable {
  let rows: Int
  let columns: Int

  var elementBits: Int { 16 }
  var byteCount: Int { rows * columns * 2 }

  func bitOffset(row: Int, column: Int) -> Int {
    let vector = column / 4
    var place = (row & ~15) + (row & 3) * 4 + ((row >> 2 ^ (row & 16) >> 3) & 3)
    place ^= vector >> 1 & 3
    return (place * 4 + column % 4 + vector * rows * 4) * 16
  }

  var description: String { "crosswise (\(rows),\(columns))" }
}

/// CUTLASS' order for Volta's right operand whose n is contiguous
/// (`VoltaTensorOpMultiplicandBCongruous`): vectors of eight n, in tiles of 8 vectors by 4 k.
///
/// Source: as ``CrosswiseTile``.
struct CongruousTile: TileLayout, Hashable {
  let rows: Int
  let columns: Int

  var elementBits: Int { 16 }
  var byteCount: Int { rows * columns * 2 }

  func bitOffset(row: Int, column: Int) -> Int {
    let vector = column / 8
    let line = vector & 3
    let place = (row & 3 ^ line) | (vector & 4)
    let element =
      (vector / 8 * 8 + place) * 8 + column % 8 + ((row & ~3) + line) * columns
    return element * 16
  }

  var description: String { "congruous (\(rows),\(columns))" }
}
