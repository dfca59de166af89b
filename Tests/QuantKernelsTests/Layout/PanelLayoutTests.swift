import DeviceModel
import QuantKernels
import TestSupport
import Testing

@Suite struct PanelLayoutTests {
  /// The formula that the CPU kernels are written from, on its own.
  private static func offset(
    n: Int, k: Int, columns: Int, groupSize: Int, trailer: Int, bits: Int, inputs: Int
  ) -> Int {
    let groupBytes = bits == 4 ? 256 : 512
    let thirtyTwos = (groupSize + 31) / 32
    let block = thirtyTwos * groupBytes + trailer
    let panel = columns / groupSize * block
    let inBlock = k % groupSize
    let step = inBlock % 32 / inputs
    let vector = bits == 4 ? step / 2 : step
    let vectorBytes = 16 * inputs
    let bytes =
      n / 16 * panel + k / groupSize * block + inBlock / 32 * groupBytes + vector * vectorBytes
      + n % 16 * inputs + k % inputs
    return bytes * 8 + (bits == 4 ? 4 * (step % 2) : 0)
  }

  @Test(
    arguments: [Fragment.vpdpbusd512, .vpdpbusd256, .maddubs256, .sdot, .smmla], [4, 8])
  func equalsTheFormula(_ fragment: Fragment, bits: Int) throws {
    for (n, k, group, trailer) in [
      (48, 256, 128, 64), (33, 96, 32, 96), (16, 4096, 4096, 0), (7, 48, 48, 8), (5, 64, 32, 0),
    ] {
      let layout = try InterleavedLayout.panels(
        rows: n, columns: k, fragment: fragment, elementBits: bits, groupSize: group,
        blockTrailerBytes: trailer)
      var wrong = 0
      for row in 0..<n {
        for column in 0..<k {
          let wanted = Self.offset(
            n: row, k: column, columns: k, groupSize: group, trailer: trailer, bits: bits,
            inputs: fragment.rows)
          if layout.bitOffset(row: row, column: column) != wanted { wrong += 1 }
          let block = (group + 31) / 32 * (bits == 4 ? 256 : 512) + trailer
          let start = (row / 16 * (k / group) + column / group) * block
          if layout.gapOffset(row: row, column: column) != start + block - trailer { wrong += 1 }
        }
      }
      #expect(wrong == 0)
      let blocks = (n + 15) / 16 * (k / group)
      #expect(
        layout.byteCount == blocks * ((group + 31) / 32 * (bits == 4 ? 256 : 512) + trailer))
    }
  }

  /// One packed weight serves VNNI of both widths, AVX2 and NEON dot products: the bits are the
  /// same.
  @Test(arguments: [4, 8])
  func fourInputInstructionsShareTheirBits(bits: Int) throws {
    let (rows, columns) = (37, 192)
    var random = RepeatableRandom(seed: 5)
    let codes = (0..<rows * columns).map { _ in
      UInt8.random(in: 0...UInt8((1 << bits) - 1), using: &random)
    }
    func packed(_ fragment: Fragment) throws -> [UInt8] {
      try InterleavedLayout.panels(
        rows: rows, columns: columns, fragment: fragment, elementBits: bits, groupSize: 64,
        blockTrailerBytes: 32
      ).pack(codes)
    }
    let widest = try packed(.vpdpbusd512)
    for fragment in [Fragment.vpdpbusd256, .maddubs256, .sdot] {
      #expect(try packed(fragment) == widest)
    }
    #expect(try packed(.smmla) != widest)
  }

  /// A panel read as the instruction reads it: 64 bytes are [16 outputs][4 k], low nibbles one
  /// step, high the next.
  @Test func vectorsHoldOutputsByInputs() throws {
    let layout = try InterleavedLayout.panels(
      rows: 16, columns: 32, fragment: .vpdpbusd512, elementBits: 4, groupSize: 32)
    var codes: [UInt8] = []
    for n in 0..<16 { for k in 0..<32 { codes.append(UInt8((n + 3 * k) % 16)) } }
    let bytes = try layout.pack(codes)
    for vector in 0..<4 {
      for output in 0..<16 {
        for input in 0..<4 {
          let byte = bytes[vector * 64 + output * 4 + input]
          let low = 8 * vector + input
          #expect(Int(byte & 15) == (output + 3 * low) % 16)
          #expect(Int(byte >> 4) == (output + 3 * (low + 4)) % 16)
        }
      }
    }
  }

  @Test func joinsWithItsScales() throws {
    func make(_ rows: Int) throws -> InterleavedLayout {
      try .panels(
        rows: rows, columns: 64, fragment: .sdot, elementBits: 4, groupSize: 32,
        blockTrailerBytes: 64)
    }
    var random = RepeatableRandom(seed: 9)
    func filled(_ layout: InterleavedLayout) -> [UInt8] {
      (0..<layout.byteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
    }
    let a = try make(32)
    let b = try make(21)
    let (left, right) = (filled(a), filled(b))
    let joint = try InterleavedLayout.joined([(a, left), (b, right)])
    #expect(joint.layout == (try make(53)))
    #expect(joint.bytes == left + right)  // panels are outermost
    #expect(try joint.layout.unpack(joint.bytes) == a.unpack(left) + b.unpack(right))
  }

  @Test func refusesWhatIsNoPanel() {
    func refused(
      rows: Int = 16, columns: Int = 64, _ fragment: Fragment = .sdot, bits: Int = 4,
      group: Int = 32, trailer: Int = 0
    ) {
      let error = #expect(throws: QuantError.self) {
        try InterleavedLayout.panels(
          rows: rows, columns: columns, fragment: fragment, elementBits: bits, groupSize: group,
          blockTrailerBytes: trailer)
      }
      #expect(error?.code == .invalidArgument)
    }
    refused(rows: 0)
    refused(columns: 0)
    refused(columns: -64)
    refused(columns: 65)
    refused(group: 48)
    refused(group: 16)
    refused(group: 0)
    refused(group: -32)
    refused(group: 128)
    refused(bits: 5)
    refused(trailer: -1)
    refused(.mmaM16N8K16B)
    refused(.scalar)
    refused(.cubeByteB)
    refused(rows: .max)
    refused(columns: .max, group: .max)
  }
}
