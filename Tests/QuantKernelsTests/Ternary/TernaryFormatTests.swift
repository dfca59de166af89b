import TestSupport
import Testing

@testable import QuantKernels

/// Every format that a matrix of some shape goes into.
enum TernaryCase {
  static func all() throws -> [TernaryFormat] {
    [
      .i2s(.x86), .i2s(.arm), .i2s(.fourRows), .tq1_0, .tq2_0, .iq1BN, .iq2BN, .iq2BNR4,
      .fiveTrits,
      .tl1(try TL1Blocking(blockRows: 64, blockColumns: 64, tileRows: 32)),
      .tl1(try TL1Blocking(blockRows: 64, blockColumns: 128, tileRows: 64)),
      .tl2(try TL2Blocking(blockRows: 32, blockColumns: 96)),
    ]
  }

  /// Random codes with a row of zeros, and a scale that binary16 holds.
  static func matrix(
    rows: Int, columns: Int, seed: UInt64 = 1, scales: TernaryMatrix.Scales = .tensor(0.5)
  ) throws -> TernaryMatrix {
    var random = RepeatableRandom(seed: seed)
    var codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...2, using: &random) }
    if rows > 1 { for k in 0..<columns { codes[columns + k] = 1 } }
    return try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: scales)
  }

  static func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.utf8.map { $0 < 58 ? $0 - 48 : $0 - 87 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}

@Suite struct TernaryFormatTests {
  private func golden(_ rows: Int, _ columns: Int, scale: Float = 0.5) throws -> TernaryMatrix {
    try TernaryMatrix(
      rows: rows, columns: columns,
      codes: goldenTernaryWeights(rows * columns).map { UInt8($0 + 1) }, scales: .tensor(scale))
  }

  @Test(arguments: [
    (
      TernaryFormat.i2s(.x86), 128, 0,
      "a65022695894040428224682162585a02a01042195658514021a2a9852909586"
    ),
    (.i2s(.arm), 64, 0, "8a44084a65962001080942a11529a1a8"),
    (.iq2BN, 64, 4, "a21120a1599608402060814a54684a2a"),
    (.iq1BN, 64, 2, "7803b3ab08f4a7e5439161811c"),
    (
      .tq1_0, 256, 0,
      "f47341a786d30a0c4e4166b42e47bae454050a3fd59db829073755dc7ac8d6bcf62a4392aa96c367e9902a429cab5"
        + "975bbcb1a170038"
    ),
    (
      .tq2_0, 256, 0,
      "9a05886925161010288891829458520aa84010485659521480a4a8268506569298111106a546a8568a45108255090"
        + "604a995081a296a1022580996a9994092550038"
    ),
    (
      .fiveTrits, 160, 0,
      "47558dd667b009abba8d40da937bc8089f6c09c37acd26ae369cf0688b05cb92"
    ),
  ])
  func goldenVectors(_ format: TernaryFormat, _ columns: Int, _ start: Int, _ wanted: String)
    throws
  {
    let matrix = try golden(1, columns)
    let bytes = try matrix.packed(as: format)
    let golden = TernaryCase.bytes(wanted)
    #expect(Array(bytes[start..<start + golden.count]) == golden)
    #expect(try TernaryMatrix(format, bytes: bytes, rows: 1, columns: columns) == matrix)
  }

  /// Indices of the first pairs and triples as the papers' tables give them, read off one row.
  @Test func goldenIndices() throws {
    // A row of a tile of 32: byte r of each vector of 32 rows is row r's.
    let columns = 96
    let row = goldenTernaryWeights(48).map { UInt8($0 + 1) }
    var codes = [UInt8](repeating: 1, count: 32 * columns)
    codes.replaceSubrange(0..<48, with: row)
    let matrix = try TernaryMatrix(rows: 32, columns: columns, codes: codes, scales: .tensor(1))
    let tl2 = try matrix.packed(
      as: .tl2(try TL2Blocking(blockRows: 32, blockColumns: 96)))
    let magnitudes = (0..<16).map { Int(tl2[32 * ($0 / 2)] >> ($0 % 2 == 0 ? 4 : 0) & 15) }
    let wanted = [8, 1, -13, -8, -11, 5, -11, 2, -13, 10, 13, 4, -1, -5, -12, 7]
    #expect(magnitudes == wanted.map { abs($0) })
    let signs = 32 * columns / 6
    for triple in 0..<16 {
      let word =
        UInt16(tl2[signs + triple / 8 * 32]) | UInt16(tl2[signs + triple / 8 * 32 + 1]) << 8
      #expect((word >> UInt16(15 - 2 * (triple % 8)) & 1 != 0) == (wanted[triple] < 0))
    }
    let tl1 = try matrix.packed(
      as: .tl1(try TL1Blocking(blockRows: 32, blockColumns: 96, tileRows: 32)))
    // A tile has 8 columns: 2 parts of 16 rows, each 2 · 16 bytes.
    let pairs = (0..<16).map { pair in
      Int(tl1[pair / 4 * 64 + pair % 4 / 2 * 16] >> (pair % 2 == 0 ? 4 : 0) & 15)
    }
    #expect(pairs == [7, 1, 5, 0, 0, 5, 0, 8, 0, 0, 7, 6, 0, 2, 5, 8])
  }

  @Test(arguments: TernaryGolden.tl1)
  func lookupPairsAsTheReference(_ shape: [Int], _ hash: UInt64) throws {
    let format = TernaryFormat.tl1(
      try TL1Blocking(blockRows: shape[2], blockColumns: shape[3], tileRows: shape[4]))
    let matrix = try golden(shape[0], shape[1])
    let bytes = try matrix.packed(as: format)
    #expect(TernaryCase.hash(bytes.dropLast(32)) == hash)
    #expect(
      try TernaryMatrix(format, bytes: bytes, rows: shape[0], columns: shape[1]) == matrix)
  }

  @Test(arguments: TernaryGolden.tl2)
  func lookupTriplesAsTheReference(_ shape: [Int], _ hash: UInt64) throws {
    let format = TernaryFormat.tl2(try TL2Blocking(blockRows: shape[2], blockColumns: shape[3]))
    let matrix = try golden(shape[0], shape[1])
    let bytes = try matrix.packed(as: format)
    #expect(TernaryCase.hash(bytes.dropLast(32)) == hash)
    #expect(
      try TernaryMatrix(format, bytes: bytes, rows: shape[0], columns: shape[1]) == matrix)
  }

  /// Reading undoes writing, and writing undoes reading.
  @Test func roundTrips() throws {
    for (rows, columns) in [(64, 256), (64, 768), (128, 1536), (4, 256), (4, 64), (3, 131), (1, 1)]
    {
      for format in try TernaryCase.all() {
        guard let size = try? format.byteCount(rows: rows, columns: columns) else { continue }
        for scales in [TernaryMatrix.Scales.tensor(0.25), .tensor(0), .tensor(-3)] {
          let matrix = try TernaryCase.matrix(
            rows: rows, columns: columns, seed: UInt64(rows + columns), scales: scales)
          let bytes = try matrix.packed(as: format)
          #expect(bytes.count == size)
          let back = try TernaryMatrix(format, bytes: bytes, rows: rows, columns: columns)
          #expect(back.codes == matrix.codes, "\(format)")
          #expect(back.dequantized() == matrix.dequantized(), "\(format)")
          #expect(try back.packed(as: format) == bytes, "\(format)")
        }
      }
    }
  }

  @Test func keepsScalesOfRows() throws {
    let scales = (0..<64).map { Float(8 + $0) * 0.125 }
    let matrix = try TernaryCase.matrix(rows: 64, columns: 768, scales: .rows(scales))
    for format in try TernaryCase.all() {
      switch format {
      case .iq1BN, .iq2BN, .iq2BNR4:
        #expect(
          try TernaryMatrix(format, bytes: matrix.packed(as: format), rows: 64, columns: 768)
            == matrix)
      case .tq1_0, .tq2_0:
        // A row of zeros has no scale there.
        let back = try TernaryMatrix(
          format, bytes: matrix.packed(as: format), rows: 64, columns: 768)
        #expect(back.dequantized() == matrix.dequantized())
        #expect(back.scale(row: 0) == 1 && back.scale(row: 1) == 0)
      default:
        let error = #expect(throws: QuantError.self) { try matrix.packed(as: format) }
        #expect(error?.code == .unsupported)
      }
    }
  }

  @Test func roundsScalesOnlyWhenAllowed() throws {
    let matrix = try TernaryCase.matrix(rows: 4, columns: 256, scales: .tensor(0.1))
    for format in [TernaryFormat.tq1_0, .tq2_0, .iq1BN] {
      let error = #expect(throws: QuantError.self) { try matrix.packed(as: format) }
      #expect(error?.code == .unsupported)
      let bytes = try matrix.packed(as: format, roundingScales: true)
      let back = try TernaryMatrix(format, bytes: bytes, rows: 4, columns: 256)
      #expect(back.scales == .tensor(0.099975586))
      for scale in [Float(1e-9), 70000] {
        let beyond = try TernaryCase.matrix(rows: 4, columns: 256, scales: .tensor(scale))
        #expect(throws: QuantError.self) { try beyond.packed(as: format, roundingScales: true) }
      }
    }
  }

  /// No inputs: each format holds its scales and nothing else.
  @Test func holdsNoColumns() throws {
    for format in try TernaryCase.all() {
      let matrix = try TernaryMatrix(rows: 64, columns: 0, codes: [], scales: .tensor(0.5))
      let bytes = try matrix.packed(as: format)
      let back = try TernaryMatrix(format, bytes: bytes, rows: 64, columns: 0)
      #expect(back.codes == [] && back.rows == 64)
      let none = try TernaryMatrix(rows: 0, columns: 768, codes: [], scales: .rows([]))
      #expect(
        try TernaryMatrix(format, bytes: none.packed(as: format), rows: 0, columns: 768).rows == 0)
    }
  }

  /// Where the package's generator of orders can say an order, it says the same.
  @Test func layoutsAreThoseOfTheFiles() throws {
    let matrix = try TernaryCase.matrix(rows: 8, columns: 512)
    let tq2 = try matrix.packed(as: .tq2_0)
    let layout = try InterleavedLayout.tq2(rows: 8, columns: 512)
    #expect(layout.byteCount == tq2.count)
    #expect(try layout.unpack(tq2) == matrix.codes)
    let iq2 = try matrix.packed(as: .iq2BN)
    let codes = (0..<8).flatMap { iq2[$0 * 132 + 4..<($0 + 1) * 132] }
    #expect(try InterleavedLayout.iq2BN(rows: 8, columns: 512).pack(matrix.codes) == codes)
    let r4 = try matrix.packed(as: .iq2BNR4)
    let groups = (0..<2).flatMap { r4[$0 * 528 + 16..<($0 + 1) * 528] }
    #expect(try InterleavedLayout.iq2BNR4(rows: 8, columns: 512).pack(matrix.codes) == groups)
    #expect(throws: QuantError.self) { try InterleavedLayout.tq2(rows: 8, columns: 64) }
    #expect(throws: QuantError.self) { try InterleavedLayout.iq2BN(rows: 8, columns: 0) }
    #expect(throws: QuantError.self) { try InterleavedLayout.iq2BNR4(rows: 6, columns: 64) }
  }

  /// All 256 bytes: the fixed-point decoder against division.
  @Test func tritFractionsDecode() {
    var canonical: Set<UInt8> = []
    for value in 0..<243 {
      let byte = TritFraction.byte(value)
      canonical.insert(byte)
      #expect(TritFraction.value(byte) == value)
      for (n, power) in [81, 27, 9, 3, 1].enumerated() {
        let trit = TritFraction.trit(byte, droppingBy: TritFraction.powers[n])
        #expect(Int(trit) == value / power % 3)
      }
    }
    #expect(canonical.count == 243)
    for byte in UInt8.min...UInt8.max {
      #expect(TritFraction.isCanonical(byte) == canonical.contains(byte))
      for power in TritFraction.powers {
        #expect(TritFraction.trit(byte, droppingBy: power) <= 2)
      }
    }
    let never: Set<UInt8> = [1, 20, 40, 60, 79, 99, 119, 138, 158, 178, 197, 217, 237]
    #expect(Set(UInt8.min...UInt8.max).subtracting(canonical) == never)
  }

  /// All 256 bytes of the plain base-3 format.
  @Test func baseThreeBytesDecode() throws {
    for byte in UInt8.min...UInt8.max {
      var bytes = [UInt8](repeating: 121, count: 32) + [0, 0, 0x80, 0x3F]
      bytes[7] = byte
      if byte < 243 {
        let matrix = try TernaryMatrix(.fiveTrits, bytes: bytes, rows: 1, columns: 160)
        var rest = byte
        for n in 0..<5 {
          #expect(matrix.codes[32 * n + 7] == rest % 3)
          rest /= 3
        }
      } else {
        #expect(throws: QuantError.self) {
          try TernaryMatrix(.fiveTrits, bytes: bytes, rows: 1, columns: 160)
        }
      }
    }
  }
}
