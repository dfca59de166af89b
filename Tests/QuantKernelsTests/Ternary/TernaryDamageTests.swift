import TestSupport
import Testing

@testable import QuantKernels

/// What the formats refuse: every byte of damaged data is an error with a place, never a trap.
@Suite struct TernaryDamageTests {
  private func code(_ format: TernaryFormat, _ bytes: [UInt8], _ rows: Int, _ columns: Int)
    -> QuantError.Code?
  {
    do throws(QuantError) {
      _ = try TernaryMatrix(format, bytes: bytes, rows: rows, columns: columns)
      return nil
    } catch {
      return error.code
    }
  }

  @Test func refusesOtherSizes() throws {
    let matrix = try TernaryCase.matrix(rows: 64, columns: 768)
    for format in try TernaryCase.all() {
      let bytes = try matrix.packed(as: format)
      for wrong in [[], Array(bytes.dropLast()), bytes + [0], Array(bytes.prefix(1))] {
        #expect(code(format, wrong, 64, 768) == .invalidData, "\(format)")
      }
      #expect(code(format, bytes, 128, 768) == .invalidData)
      #expect(code(format, bytes, -1, 768) == .invalidArgument)
      #expect(code(format, bytes, .max, 256) == .invalidArgument)
      #expect(code(format, bytes, .max, 0) == .invalidArgument)
      #expect(code(format, [], 1 << 46, 0) == .invalidArgument)
    }
  }

  @Test func refusesShapesThatTheFormatsDoNotTake() throws {
    let shapes: [(TernaryFormat, Int, Int)] = [
      (.i2s(.x86), 1, 64), (.i2s(.arm), 1, 96), (.i2s(.fourRows), 6, 128), (.tq1_0, 4, 300),
      (.tq2_0, 4, 128), (.iq1BN, 4, 32), (.iq2BN, 4, 96), (.iq2BNR4, 4, 96), (.iq2BNR4, 6, 64),
      (.tl1(try TL1Blocking(blockRows: 32, blockColumns: 64, tileRows: 32)), 32, 96),
      (.tl1(try TL1Blocking(blockRows: 64, blockColumns: 64, tileRows: 32)), 96, 64),
      (.tl2(try TL2Blocking(blockRows: 32, blockColumns: 96)), 32, 97),
      (.tl2(try TL2Blocking(blockRows: 32, blockColumns: 96)), 48, 96),
      // More columns of pairs than the format's size formula has room for.
      (.tl2(try TL2Blocking(blockRows: 32, blockColumns: 1536)), 32, 1024),
    ]
    for (format, rows, columns) in shapes {
      let error = #expect(throws: QuantError.self) {
        try format.byteCount(rows: rows, columns: columns)
      }
      #expect(error?.code == .unsupported)
      let matrix = try TernaryCase.matrix(rows: rows, columns: columns)
      #expect(throws: QuantError.self) { try matrix.packed(as: format) }
      #expect(code(format, [], rows, columns) == .unsupported)
    }
    for (rows, columns, tile) in [
      (32, 64, 16), (48, 64, 32), (32, 60, 32), (0, 64, 32), (64, 0, 64),
    ] {
      #expect(throws: QuantError.self) {
        try TL1Blocking(blockRows: rows, blockColumns: columns, tileRows: tile)
      }
    }
    for (rows, columns) in [(16, 96), (32, 95), (0, 96), (32, 0), (-32, 96)] {
      #expect(throws: QuantError.self) { try TL2Blocking(blockRows: rows, blockColumns: columns) }
    }
  }

  /// Blocks may straddle rows in I2_S: 3 rows of 128 · 2 / 3 … here 2 rows of 64.
  @Test func blocksOfI2SStraddleRows() throws {
    let matrix = try TernaryCase.matrix(rows: 2, columns: 64)
    let flat = try TernaryMatrix(
      rows: 1, columns: 128, codes: matrix.codes, scales: matrix.scales)
    #expect(try matrix.packed(as: .i2s(.x86)) == flat.packed(as: .i2s(.x86)))
  }

  /// Bytes that hold no codes, at the first and the last place of the codes.
  @Test func refusesCodesThatAreNone() throws {
    let (rows, columns) = (64, 768)
    let matrix = try TernaryCase.matrix(rows: rows, columns: columns)
    let tl1 = TernaryFormat.tl1(try TL1Blocking(blockRows: 64, blockColumns: 64, tileRows: 32))
    let tl2 = TernaryFormat.tl2(try TL2Blocking(blockRows: 64, blockColumns: 72))
    let triples = rows * 720 / 6
    let pairs = rows * 720 / 6 + rows * 720 / 24
    let threes: [UInt8] = [0x03, 0x0C, 0x30, 0xC0, 0xFF]
    let nibbles: [UInt8] = [0x09, 0x90, 0x0F, 0xF0]
    let cases: [(TernaryFormat, [Int], [UInt8])] = [
      (.i2s(.x86), [0, rows * columns / 4 - 1], threes),
      (.i2s(.arm), [0, rows * columns / 4 - 1], threes),
      (.i2s(.fourRows), [0, rows * columns / 4 - 1], threes),
      (tl1, [0, rows * columns / 4 - 1], nibbles),
      (.tq1_0, [0, 51, rows * 3 * 54 - 3], [1, 20, 237]),
      (.tq1_0, [48, 51], [TritFraction.byte(1), TritFraction.byte(242)]),
      (.tq2_0, [0, 63, rows * 3 * 66 - 3], threes),
      (.iq1BN, [2, 2 + 12 * 13 - 1, rows * 158 - 1], [1, 20, 237]),
      (.iq1BN, [2 + 12, rows * 158 - 1], [TritFraction.byte(81), 255]),
      (.iq2BN, [4, rows * 196 - 1], threes),
      (.iq2BNR4, [16, rows / 4 * (16 + 768) - 1], threes),
      (.fiveTrits, [0, rows * 5 * 32 - 1], [243, 255]),
    ]
    for (format, places, values) in cases {
      let bytes = try matrix.packed(as: format)
      for place in places {
        for value in values {
          var damaged = bytes
          damaged[place] = value
          #expect(code(format, damaged, rows, columns) == .invalidData, "\(format) \(place)")
          damaged.withUnsafeBytes { damaged in
            #expect(throws: QuantError.self) {
              try format.check(damaged, rows: rows, columns: columns)
            }
          }
        }
      }
    }
    // 768 columns are 10 blocks of 72 and 48 of pairs, which go by 32.
    #expect(throws: QuantError.self) { try matrix.packed(as: tl2) }
    let fit = try TernaryCase.matrix(rows: rows, columns: 752)
    let bytes = try fit.packed(as: tl2)
    let end = pairs + rows * 32 / 4
    for (place, values) in [
      (0, [0x0E, 0xE0, 0xFF]), (triples - 1, [0x0F, 0xF0]), (pairs, [0x09, 0x90]),
      (end - 1, [0x0F, 0xF0]), (end, [1]), (bytes.count - 33, [255]),
    ] as [(Int, [UInt8])] {
      for value in values {
        var damaged = bytes
        damaged[place] = value
        #expect(code(tl2, damaged, rows, 752) == .invalidData, "TL2 \(place)")
      }
    }
  }

  @Test func refusesTheSignOfAZero() throws {
    let format = TernaryFormat.tl2(try TL2Blocking(blockRows: 32, blockColumns: 96))
    let zeros = try TernaryMatrix(
      rows: 32, columns: 96, codes: .init(repeating: 1, count: 32 * 96), scales: .tensor(1))
    for bit in [0, 7, 32 * 96 / 3 - 1] {
      var bytes = try zeros.packed(as: format)
      bytes[32 * 96 / 6 + bit / 8] |= 1 << UInt8(bit % 8)
      #expect(code(format, bytes, 32, 96) == .invalidData)
    }
  }

  @Test func refusesScalesThatAreNotFinite() throws {
    let (rows, columns) = (64, 768)
    let matrix = try TernaryCase.matrix(rows: rows, columns: columns)
    let halves: [(TernaryFormat, Int)] = [(.tq1_0, 52), (.tq2_0, 64), (.iq1BN, 0)]
    for (format, place) in halves {
      for high: UInt8 in [0x7C, 0x7E, 0xFC] {
        var bytes = try matrix.packed(as: format)
        bytes[place + 1] = high
        #expect(code(format, bytes, rows, columns) == .invalidData)
      }
    }
    for format in try TernaryCase.all() where !halves.contains(where: { $0.0 == format }) {
      var bytes = try matrix.packed(as: format)
      let place =
        switch format {
        case .iq2BN, .iq2BNR4: 0
        case .fiveTrits: bytes.count - 4
        default: bytes.count - 32
        }
      bytes.replaceSubrange(place..<place + 4, with: [0, 0, 0x80, 0x7F])
      #expect(code(format, bytes, rows, columns) == .invalidData, "\(format)")
    }
  }

  @Test func blocksOfDifferentScalesAreNotTernary() throws {
    let matrix = try TernaryCase.matrix(rows: 1, columns: 512)
    var bytes = try matrix.packed(as: .tq2_0)
    bytes[131] = 0x34
    #expect(code(.tq2_0, bytes, 1, 512) == .unsupported)
    // The scale of a block of zeros is without meaning.
    for place in 66..<130 { bytes[place] = 0x55 }
    let back = try TernaryMatrix(.tq2_0, bytes: bytes, rows: 1, columns: 512)
    #expect(back.scales == .tensor(0.5))
  }

  @Test func refusesOtherPaddingThanZeros() throws {
    let matrix = try TernaryCase.matrix(rows: 1, columns: 130)
    var bytes = try matrix.packed(as: .fiveTrits)
    bytes[31] = bytes[31] - 81
    #expect(code(.fiveTrits, bytes, 1, 130) == .invalidData)
  }

  /// Buffers that end at a page nobody may read, at any alignment.
  @Test func readsNothingPastTheEnd() throws {
    for format in try TernaryCase.all() {
      let matrix = try TernaryCase.matrix(rows: 64, columns: 768)
      let bytes = try matrix.packed(as: format)
      let guarded = try #require(GuardedBytes(capacity: bytes.count))
      let tail = guarded.tail(bytes.count)
      tail.copyBytes(from: bytes)
      let back = try TernaryMatrix(
        format, bytes: UnsafeRawBufferPointer(tail), rows: 64, columns: 768)
      #expect(back.codes == matrix.codes)
      for offset in 0..<64 {
        let moved = [UInt8](repeating: 0, count: offset) + bytes
        let codes = try moved.withUnsafeBytes { moved throws -> [UInt8] in
          let part = UnsafeRawBufferPointer(rebasing: moved[offset...])
          return try TernaryMatrix(format, bytes: part, rows: 64, columns: 768).codes
        }
        #expect(codes == matrix.codes)
      }
    }
  }

  /// Random bytes: an error or a matrix that is written back as it was read.
  @Test func randomBytesAreErrorsOrMatrices() throws {
    var random = RepeatableRandom(seed: 5)
    for format in try TernaryCase.all() {
      let (rows, columns) = (64, 768)
      let size = try format.byteCount(rows: rows, columns: columns)
      for round in 0..<20 {
        var bytes = try TernaryCase.matrix(rows: rows, columns: columns, seed: UInt64(round))
          .packed(as: format)
        #expect(bytes.count == size)
        for _ in 0..<round {
          bytes[.random(in: 0..<size, using: &random)] = .random(in: 0...255, using: &random)
        }
        if let matrix = try? TernaryMatrix(format, bytes: bytes, rows: rows, columns: columns) {
          #expect(matrix.codes.allSatisfy { $0 <= 2 })
        }
      }
    }
  }
}
