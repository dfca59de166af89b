import DeviceModel
import QuantKernels
import TestSupport
import Testing

@Suite struct QUICKLayoutTests {
  /// The closed form of the published packer, written out on its own.
  private static func closedForm(n: Int, k: Int, outputs: Int) -> Int {
    let block = n / 128
    let warp = n % 128 / 64
    let tile = n % 64 / 8
    let group = n % 8
    let step = k / 32
    let half = k % 32 / 16
    let upper = k % 16 / 8
    let pair = k % 8 / 2
    let parity = k % 2
    let word =
      step * 4 * outputs + (2 * warp + group / 4) * outputs + block * 128 + group % 4 * 32 + pair
      * 8
      + half * 4 + tile / 2
    return word * 32 + 4 * (2 * (tile % 2) + upper + 4 * parity)
  }

  @Test(arguments: [128, 256, 384, 512, 640, 768], [32, 64, 4096])
  func equalsClosedForm(outputs: Int, inputs: Int) throws {
    let layout = try InterleavedLayout.quick(rows: outputs, columns: inputs, padding: .extended)
    #expect(layout.byteCount == outputs * inputs / 2)
    // Every weight of small matrices, a grid of strides prime to the tiles in the large ones.
    let stepN = inputs > 64 ? 37 : 1
    let stepK = inputs > 64 ? 29 : 1
    var wrong = 0
    for n in stride(from: 0, to: outputs, by: stepN) {
      for k in stride(from: 0, to: inputs, by: stepK)
      where layout.bitOffset(row: n, column: k) != Self.closedForm(n: n, k: k, outputs: outputs) {
        wrong += 1
      }
    }
    #expect(wrong == 0)
  }

  /// Each lane of each warp, loading the eight words that the kernel's address formula names, finds
  /// in them exactly its B fragments of eight n-tiles and two k16 steps, in the order the fast
  /// dequantization peels them.
  @Test(arguments: [128, 256, 384])
  func lanesFindTheirFragments(outputs: Int) throws {
    let inputs = 64
    // Sixteen codes cannot name a weight; pack the weight's low and high nibbles of n and k in
    // turn.
    let layout = try InterleavedLayout.quick(rows: outputs, columns: inputs, padding: .extended)
    func words(_ code: (Int, Int) -> Int) throws -> [UInt32] {
      var codes: [UInt8] = []
      for n in 0..<outputs { for k in 0..<inputs { codes.append(UInt8(code(n, k) & 15)) } }
      let bytes = try layout.pack(codes)
      return stride(from: 0, to: bytes.count, by: 4).map { at in
        (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
      }
    }
    let planes = [
      try words { n, _ in n }, try words { n, _ in n >> 4 }, try words { n, _ in n >> 8 },
      try words { _, k in k }, try words { _, k in k >> 4 },
    ]
    func weight(_ word: Int, _ nibble: Int) -> (n: Int, k: Int) {
      let digit = planes.map { Int($0[word] >> UInt32(4 * nibble)) & 15 }
      return (digit[0] | digit[1] << 4 | digit[2] << 8, digit[3] | digit[4] << 4)
    }
    var wrong = 0
    for kb in 0..<inputs / 32 {
      for block in 0..<outputs / 128 {
        for warp in 0..<2 {
          for lane in 0..<32 {
            let base =
              kb * 4 * outputs + (2 * warp + lane / 16) * outputs + block * 128 + lane % 16 * 8
            for index in 0..<8 {
              // Logical halves e0…e7 of a word stand in nibbles 0,4,1,5,2,6,3,7 (order map
              // 0,2,4,6,1,3,5,7).
              for element in 0..<8 {
                let nibble = element / 2 + 4 * (element % 2)
                let found = weight(base + index, nibble)
                // Halves 0…3 are the first n-tile's b₀…b₃, halves 4…7 the second's.
                let tile = 2 * (index % 4) + element / 4
                let b = Fragment.mmaM16N8K16B.coordinate(lane: lane, element: element % 4)
                let n = block * 128 + warp * 64 + tile * 8 + b.column
                let k = kb * 32 + index / 4 * 16 + b.row
                if found.n != n || found.k != k { wrong += 1 }
              }
            }
          }
        }
      }
    }
    #expect(wrong == 0)
  }

  @Test(arguments: [128, 256, 640])
  func scalesAndZerosFollowTheRecords(outputs: Int) throws {
    let groups = 3
    let scales = try InterleavedLayout.quickScales(
      rows: outputs, groups: groups, padding: .extended)
    let zeros = try InterleavedLayout.quickZeroPoints(
      rows: outputs, groups: groups, padding: .extended)
    #expect(scales.byteCount == groups * 2 * outputs * 2)
    #expect(zeros.byteCount == groups * outputs / 4 * 4)
    #expect(scales.copyOffsets == [0, 16])
    #expect(zeros.copyOffsets == [0, 16])
    for group in 0..<groups {
      for block in 0..<outputs / 128 {
        for warp in 0..<2 {
          for lane in 0..<32 {
            let channel = (2 * warp + lane / 16) * (outputs / 8) + 16 * block + lane % 16
            let record = channel / 4
            for tile in 0..<8 {
              let n = 128 * block + 64 * warp + 8 * tile + lane / 4
              #expect(
                scales.bitOffset(row: n, column: group)
                  == (group * 2 * outputs + record * 16 + tile * 2) * 16)
              #expect(
                zeros.bitOffset(row: n, column: group)
                  == (group * outputs / 4 + record * 2 + tile / 4) * 32 + 4 * (tile % 4))
            }
          }
        }
      }
    }
    let halves = (0..<outputs * groups).map { UInt16($0) }
    let packed = try scales.pack(halves: halves)
    #expect(packed.count == groups * 2 * outputs)
    #expect(stride(from: 0, to: packed.count, by: 2).allSatisfy { packed[$0] == packed[$0 + 1] })
    #expect(try scales.unpack(halves: packed) == halves)
  }

  @Test func marlinAndAWQAndGPTQAreTheirClosedForms() throws {
    let (outputs, inputs) = (256, 64)
    let marlin = try InterleavedLayout.marlin(rows: outputs, columns: inputs)
    let awq = try InterleavedLayout.awq(rows: outputs, columns: inputs)
    let gptq = try InterleavedLayout.gptq(rows: outputs, columns: inputs)
    let gptqZeros = try InterleavedLayout.gptqZeroPoints(rows: outputs, groups: inputs)
    let awqNibbles = [0, 2, 4, 6, 1, 3, 5, 7]
    for n in 0..<outputs {
      for k in 0..<inputs {
        let nibble = 2 * (n % 16 / 8) + k % 16 / 8 + 4 * (k % 2)
        let lane = 4 * (n % 8) + k % 8 / 2
        let word = k / 16 * 2 * outputs + n / 64 * 128 + lane * 4 + n % 64 / 16
        #expect(marlin.bitOffset(row: n, column: k) == word * 32 + 4 * nibble)
        let place = awqNibbles.firstIndex(of: n % 8)!
        #expect(awq.bitOffset(row: n, column: k) == (k * outputs / 8 + n / 8) * 32 + 4 * place)
        #expect(gptq.bitOffset(row: n, column: k) == (k / 8 * outputs + n) * 32 + 4 * (k % 8))
        #expect(
          gptqZeros.bitOffset(row: n, column: k) == (k * outputs / 8 + n / 8) * 32 + 4 * (n % 8))
      }
    }
  }

  @Test(arguments: [(128, 32), (256, 512), (384, 64), (640, 32), (768, 96)])
  func roundTripsByIntegerMoves(outputs: Int, inputs: Int) throws {
    var random = RepeatableRandom(seed: UInt64(outputs + inputs))
    let awq = try InterleavedLayout.awq(rows: outputs, columns: inputs)
    let quick = try InterleavedLayout.quick(rows: outputs, columns: inputs, padding: .extended)
    let marlin = try InterleavedLayout.marlin(rows: outputs, columns: inputs)
    // Any bytes are an AWQ matrix: start from the file, not from codes.
    let stored = (0..<awq.byteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
    let asQUICK = try awq.repack(stored, to: quick)
    let asMarlin = try quick.repack(asQUICK, to: marlin)
    #expect(try marlin.repack(asMarlin, to: awq) == stored)
    #expect(try quick.repack(asQUICK, to: awq) == stored)
    #expect(asQUICK != stored && asMarlin != asQUICK)

    // QUICK's and Marlin's words are the same words.
    let permutation = try #require(quick.wordPermutation(to: marlin))
    #expect(Set(permutation).count == permutation.count)
    var moved = [UInt8](repeating: 0, count: asQUICK.count)
    for (from, to) in permutation.enumerated() {
      for byte in 0..<4 { moved[to * 4 + byte] = asQUICK[from * 4 + byte] }
    }
    #expect(moved == asMarlin)
    #expect(quick.wordPermutation(to: awq) == nil)
  }

  @Test(arguments: [128, 256])
  func shardIsTheSliceBeforePacking(width: Int) throws {
    let (outputs, inputs) = (512, 64)
    var random = RepeatableRandom(seed: 3)
    let codes = (0..<outputs * inputs).map { _ in UInt8.random(in: 0...15, using: &random) }
    let whole = try InterleavedLayout.quick(rows: outputs, columns: inputs)
    let unpacked = try whole.unpack(whole.pack(codes))
    var parts: [(layout: InterleavedLayout, bytes: [UInt8])] = []
    for start in stride(from: 0, to: outputs, by: width) {
      let slice = Array(unpacked[start * inputs..<(start + width) * inputs])
      let layout = try InterleavedLayout.quick(rows: width, columns: inputs)
      parts.append((layout, try layout.pack(slice)))
      #expect(try layout.unpack(parts[parts.count - 1].bytes) == slice)
    }
    let joint = try InterleavedLayout.joined(parts)
    #expect(joint.layout == whole)
    #expect(try joint.bytes == whole.pack(codes))
  }

  @Test func concatenationIsNotPlain() throws {
    // Grouped-query attention: Q wider than K and V. The published tool refuses unequal widths.
    let inputs = 64
    var random = RepeatableRandom(seed: 11)
    var codes: [UInt8] = []
    var parts: [(layout: InterleavedLayout, bytes: [UInt8])] = []
    for rows in [512, 128, 128] {
      let own = (0..<rows * inputs).map { _ in UInt8.random(in: 0...15, using: &random) }
      codes += own
      let layout = try InterleavedLayout.quick(rows: rows, columns: inputs)
      parts.append((layout, try layout.pack(own)))
    }
    let joint = try InterleavedLayout.joined(parts)
    let wanted = try InterleavedLayout.quick(rows: 768, columns: inputs)
    #expect(joint.layout == wanted)
    #expect(try joint.bytes == wanted.pack(codes))
    #expect(parts.flatMap(\.bytes) != joint.bytes)

    // Scales and zeros join the same way.
    for zeros in [false, true] {
      func make(_ rows: Int) throws -> InterleavedLayout {
        zeros
          ? try .quickZeroPoints(rows: rows, groups: 2, padding: .extended)
          : try .quickScales(rows: rows, groups: 2, padding: .extended)
      }
      func pack(_ layout: InterleavedLayout, _ values: [UInt16]) throws -> [UInt8] {
        if zeros { return try layout.pack(values.map { UInt8($0) }) }
        return try layout.pack(halves: values).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
      }
      let (a, b) = (try make(256), try make(128))
      let left = (0..<256 * 2).map { UInt16($0 % 16) }
      let right = (0..<128 * 2).map { UInt16(($0 + 5) % 16) }
      let joined = try InterleavedLayout.joined([(a, pack(a, left)), (b, pack(b, right))])
      #expect(try joined.bytes == pack(make(384), left + right))
    }
  }

  @Test func refusesBadShapesAndParts() throws {
    func refused(_ make: () throws -> InterleavedLayout) {
      let error = #expect(throws: QuantError.self) { _ = try make() }
      #expect(error?.code == .invalidArgument)
    }
    for (n, k) in [
      (384, 32), (640, 32), (8, 32), (129, 32), (128, 16), (128, 33), (0, 32), (128, 0),
    ] {
      refused { try .quick(rows: n, columns: k) }
    }
    for (n, k) in [(64, 32), (8, 32), (100, 32), (384, 31), (-128, 32), (128, -32)] {
      refused { try .quick(rows: n, columns: k, padding: .extended) }
    }
    refused { try .quick(rows: 0, columns: 5, padding: .padded) }
    refused { try .quick(rows: .max, columns: 5, padding: .padded) }
    refused { try .quickScales(rows: 384, groups: 2) }
    refused { try .quickZeroPoints(rows: 256, groups: 0) }
    refused { try .marlin(rows: 32, columns: 16) }
    refused { try .marlin(rows: 64, columns: 8) }
    refused { try .awq(rows: 12, columns: 4) }
    refused { try .gptq(rows: 8, columns: 12) }
    refused { try .gptqZeroPoints(rows: 9, groups: 1) }

    let a = try InterleavedLayout.quick(rows: 128, columns: 32)
    let b = try InterleavedLayout.quick(rows: 128, columns: 64)
    let c = try InterleavedLayout.marlin(rows: 128, columns: 32)
    let narrow = try InterleavedLayout.quick(rows: 100, columns: 32, padding: .padded)
    func bytes(_ layout: InterleavedLayout) -> [UInt8] {
      .init(repeating: 0, count: layout.byteCount)
    }
    for parts in [
      [], [(a, bytes(a)), (b, bytes(b))], [(a, bytes(a)), (c, bytes(c))],
      [(narrow, bytes(narrow)), (a, bytes(a))], [(a, bytes(a)), (a, [1, 2, 3])],
    ] as [[(layout: InterleavedLayout, bytes: [UInt8])]] {
      #expect(throws: QuantError.self) { try InterleavedLayout.joined(parts) }
    }
    #expect(throws: QuantError.self) { try a.repack(bytes(a), to: b) }
    #expect(throws: QuantError.self) { try a.repack([0], to: c) }
  }
}
