import DeviceModel
import Testing

@Suite struct TileLayoutTests {
  @Test func rowMajorIsShapeAndStride() throws {
    let plain = try RowMajor(rows: 3, columns: 5, elementBits: 16)
    #expect(plain.description == "(3,5):(5,1)")
    #expect(plain.byteCount == 30)
    #expect(plain.byteOffset(row: 2, column: 4) == 28)
    let padded = try RowMajor(rows: 16, columns: 32, elementBits: 16, pitch: 40)
    #expect(padded.description == "(16,32):(40,1)")
    #expect(padded.byteCount == 1280)  // QUICK's tile of activations
    #expect(padded.byteOffset(row: 1, column: 0) == 80)
    let nibbles = try RowMajor(rows: 3, columns: 3, elementBits: 4)
    #expect(nibbles.byteCount == 5)
    #expect(nibbles.bitOffset(row: 1, column: 2) == 20)
  }

  @Test(arguments: [(1, 3, 3), (2, 3, 3), (3, 3, 3), (2, 0, 4), (3, 2, 4), (5, 0, 5), (0, 0, 0)])
  func swizzleIsBijectionAndItsOwnInverse(_ bits: Int, _ base: Int, _ shift: Int) throws {
    let swizzle = try Swizzle(bits, base, shift)
    var seen = Set<Int>()
    for offset in 0..<4096 {
      // CuTe's definition, bit by bit.
      var wanted = offset
      for bit in 0..<bits where offset >> (base + shift + bit) & 1 == 1 {
        wanted ^= 1 << (base + bit)
      }
      #expect(swizzle(offset) == wanted)
      #expect(swizzle(swizzle(offset)) == offset)
      #expect(swizzle(offset) / swizzle.window == offset / swizzle.window)
      seen.insert(swizzle(offset))
    }
    #expect(seen.count == 4096)
  }

  @Test func swizzledTileIsBijection() throws {
    let base = try RowMajor(rows: 13, columns: 64, elementBits: 16)
    let layout = try Swizzled(base, Swizzle(3, 3, 3))
    #expect(layout.description == "Swizzle<3,3,3>∘(13,64):(64,1)")
    #expect(layout.byteCount == 13 * 128)
    var seen = Set<Int>()
    for row in 0..<13 {
      for column in 0..<64 {
        let offset = layout.byteOffset(row: row, column: column)
        #expect(offset % 2 == 0 && offset >= 0 && offset + 2 <= layout.byteCount)
        #expect(seen.insert(offset).inserted)
      }
    }
    // A tile shorter than the window still holds every swizzled offset.
    let short = try Swizzled(
      RowMajor(rows: 1, columns: 5, elementBits: 16), Swizzle(3, 0, 3))
    for column in 0..<5 { #expect(short.byteOffset(row: 0, column: column) + 2 <= short.byteCount) }
  }

  /// Rows of 128, 64 and 32 bytes: eight 16-byte accesses down a column (one phase of ldmatrix)
  /// touch 32 different banks under the swizzle, and collide without it.
  @Test(arguments: [(128, 3), (64, 2), (32, 1)])
  func swizzleSpreadsColumnsOverBanks(_ rowBytes: Int, _ bits: Int) throws {
    let base = try RowMajor(rows: 64, columns: rowBytes / 2, elementBits: 16)
    let layout = try Swizzled(base, Swizzle(bits, 3, 3))
    func banks(_ tile: some TileLayout, _ row: Int, _ column: Int) -> Int {
      Set((0..<8).map { tile.byteOffset(row: row + $0, column: column) / 16 % 8 }).count
    }
    for row in stride(from: 0, to: 64, by: 8) {
      for column in stride(from: 0, to: rowBytes / 2, by: 8) {
        #expect(banks(layout, row, column) == 8)
        #expect(banks(base, row, column) < 8)
      }
    }
  }

  @Test func refusesImpossibleSizes() {
    #expect(throws: LayoutError.self) { try RowMajor(rows: 0, columns: 1, elementBits: 8) }
    #expect(throws: LayoutError.self) { try RowMajor(rows: 1, columns: -1, elementBits: 8) }
    #expect(throws: LayoutError.self) {
      try RowMajor(rows: 2, columns: 8, elementBits: 8, pitch: 7)
    }
    #expect(throws: LayoutError.self) { try RowMajor(rows: .max, columns: 2, elementBits: 8) }
    #expect(throws: LayoutError.self) { try RowMajor(rows: 1, columns: .max, elementBits: 8) }
    #expect(throws: LayoutError.self) { try Swizzle(3, 0, 2) }
    #expect(throws: LayoutError.self) { try Swizzle(-1, 0, 2) }
    #expect(throws: LayoutError.self) { try Swizzle(30, 30, 30) }
    #expect(throws: LayoutError.self) {
      try Swizzled(RowMajor(rows: 1, columns: 1, elementBits: 64), Swizzle(0, 61, 0))
    }
  }
}
