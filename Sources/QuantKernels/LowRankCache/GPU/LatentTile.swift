import DeviceModel

/// The way of a tile of latents from device memory to shared memory: `positions` rows of one chunk of
/// columns, as halves in the order of ``OperandTile``.
///
/// Binary16 goes by asynchronous copies of 16 bytes. Packed codes go through registers: a lane loads
/// the words of 32 codes of one position, and after the products of the step before unpacks them to
/// `m + s·q`, one fused multiply-add of halves each, and stores them. Rows past the last position
/// become zeros.
struct LatentTile: Sendable {
  let latents: DeviceLatents
  /// Rows of a tile, a multiple of 16.
  let positions: Int
  let tile: OperandTile
  let warps: Int
  /// Call sites: codes or halves, zeros and unpacked halves, scales, their place in shared memory.
  let sites: Sites

  struct Sites: Sendable {
    let load: Int
    let store: Int
    let scales: Int
    let scaleStore: Int
    let scaleLoad: Int
  }

  /// Codes under way: words by round, and of what columns and position.
  struct Words: Sendable {
    var words: [[Lanes<UInt32>]] = []
  }

  init(
    _ latents: DeviceLatents, positions: Int, columns: Int, warps: Int, sites: Sites
  ) throws(QuantError) {
    self.latents = latents
    self.positions = positions
    self.warps = warps
    self.sites = sites
    tile = try OperandTile(rows: positions, columns: columns, order: .swizzled)
  }

  /// Shared bytes of the scales and minima of a tile.
  var scaleBytes: Int { latents.isPacked ? 4 * positions : 0 }
  var byteCount: Int { tile.byteCount }
  /// Chunks of a tile's columns that there are.
  var chunks: Int { (latents.width + tile.columns - 1) / tile.columns }

  private var bits: Int { latents.type.bits }
  /// Latents that stand in whole chunks of 32; the rest follow in a stream of bits.
  private var whole: Int { latents.width / 32 * 32 }
  private var restBytes: Int { ((latents.width - whole) * bits + 7) / 8 }
  private var items: Int { positions * tile.columns / 32 }
  private var rounds: Int { (items + 32 * warps - 1) / (32 * warps) }

  private func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
    .each { UInt32(truncatingIfNeeded: value(Int($0))) }
  }

  /// Positions of a tile that stand in blocks of 16 of which there is something.
  private func held(_ first: Int) -> Int {
    min(positions, (latents.positions - first + 15) / 16 * 16)
  }

  // MARK: Scales

  /// Scale and minimum of each position of a tile to `start`; a barrier has to follow.
  func loadScales(
    unit: Int, first: Int, to start: Int, _ warp: inout Warp
  ) throws(DeviceError) {
    guard latents.isPacked else { return }
    let held = held(first)
    let base = latents.offset(unit: unit, position: first)
    for round in 0..<(positions + 32 * warps - 1) / (32 * warps) {
      func position(_ lane: Int) -> Int { (round * warps + warp.index) * 32 + lane }
      let mask = LaneMask { position($0) < held }
      let from = lanes { base + position($0) / 16 * latents.blockBytes + position($0) % 16 * 2 }
      let scale = try warp.loadGlobal(
        bytes: 2, from: latents.buffer, at: from, mask: mask, site: sites.scales)
      let minimum = try warp.loadGlobal(
        bytes: 2, from: latents.buffer, at: from.moved(by: 32), mask: mask, site: sites.scales)
      var both = Lanes<UInt32>()
      for lane in 0..<32 { both[lane] = scale[lane] | minimum[lane] << 16 }
      try warp.storeShared(
        both, at: lanes { start + 4 * position($0) },
        mask: LaneMask { position($0) < positions }, site: sites.scaleStore)
      warp.count(.integer, 3)
    }
  }

  // MARK: Latents

  /// Starts loading columns from `chunk · columns` on of the tile at `first`, to `start`. Copies are
  /// to be committed by the caller; what is returned is for ``settle(_:chunk:first:to:scales:_:)``.
  func fetch(
    unit: Int, chunk: Int, first: Int, to start: Int, _ warp: inout Warp
  ) throws(DeviceError) -> Words {
    let base = latents.offset(unit: unit, position: first)
    guard latents.isPacked else {
      let units = tile.columns / 8
      let rows = latents.positions - first
      let pitch = latents.bytesPerPosition
      let bytes = chunk * tile.columns * 2
      for round in 0..<(positions * units + 32 * warps - 1) / (32 * warps) {
        func unit(_ lane: Int) -> Int { (round * warps + warp.index) * 32 + lane }
        let there = LaneMask { unit($0) < positions * units }
        let mask = LaneMask {
          there[$0] && unit($0) / units < rows && bytes + unit($0) % units * 16 < pitch
        }
        let to = lanes {
          start
            + tile.byteOffset(
              row: min(unit($0) / units, positions - 1), column: unit($0) % units * 8)
        }
        try warp.copyAsync(
          bytes: 16, from: latents.buffer,
          at: lanes { base + unit($0) / units * pitch + bytes + unit($0) % units * 16 },
          toShared: to, mask: mask, site: sites.load)
        try warp.storeShared(
          Registers4(), at: to, mask: there.subtracting(mask), site: sites.store)
      }
      warp.count(.integer, 2)
      return Words()
    }
    let held = held(first)
    var result = Words()
    for round in 0..<rounds {
      let place = place(round, warp.index, chunk)
      let from = (0..<32).map { lane in
        base + place[lane].position / 16 * latents.blockBytes + 64
      }
      let full = LaneMask {
        place[$0].isThere && place[$0].position < held && place[$0].column < whole
      }
      var words: [Lanes<UInt32>] = []
      for word in 0..<bits {
        words.append(
          try warp.loadGlobal(
            from: latents.buffer,
            at: lanes { lane in
              from[lane] + place[lane].column / 32 * 64 * bits + word * 64
                + place[lane].position % 16 * 4
            }, mask: full, site: sites.load))
      }
      let rest = LaneMask {
        place[$0].isThere && place[$0].position < held && place[$0].column == whole
      }
      if restBytes > 0, rest.rawValue != 0 {
        for byte in 0..<restBytes {
          let value = try warp.loadGlobal(
            bytes: 1, from: latents.buffer,
            at: lanes { lane in
              from[lane] + 2 * whole * bits + place[lane].position % 16 * restBytes + byte
            }, mask: rest, site: sites.load)
          for lane in 0..<32 where rest[lane] {
            words[byte / 4][lane] |= value[lane] << UInt32(byte % 4 * 8)
          }
        }
        warp.count(.integer, restBytes)
      }
      result.words.append(words)
    }
    warp.count(.integer, 2)
    return result
  }

  /// What a lane unpacks in a round: 32 codes of one position.
  private struct Place {
    let position: Int
    let column: Int
    let isThere: Bool
  }

  private func place(_ round: Int, _ warp: Int, _ chunk: Int) -> [Place] {
    (0..<32).map { lane in
      let item = (round * warps + warp) * 32 + lane
      return Place(
        position: item % positions, column: chunk * tile.columns + item / positions * 32,
        isThere: item < items)
    }
  }

  /// Unpacks fetched codes to `start`.
  func settle(
    _ fetched: Words, chunk: Int, first: Int, to start: Int, scales: Int, _ warp: inout Warp
  ) throws(DeviceError) {
    let held = held(first)
    for (round, words) in fetched.words.enumerated() {
      let place = place(round, warp.index, chunk)
      let there = LaneMask { place[$0].isThere }
      guard there.rawValue != 0 else { continue }
      let known: Lanes<UInt32> = try warp.loadShared(
        at: lanes { scales + 4 * place[$0].position }, mask: there, site: sites.scaleLoad)
      let scale = known.mapWords { ($0 & 0xFFFF) * 0x1_0001 }
      let minimum = known.mapWords { ($0 >> 16) * 0x1_0001 }
      for quarter in 0..<4 {
        var pairs = Registers4()
        for pair in 0..<4 {
          var codes = Lanes<UInt32>()
          for lane in 0..<32 where place[lane].position < held {
            let column = place[lane].column
            for half in 0..<2 {
              let element = 8 * quarter + 2 * pair + half
              let code =
                column < whole
                ? code(words, lane, element)
                : column + element < latents.width ? restCode(words, lane, element) : 0
              codes[lane] |= code << UInt32(16 * half)
            }
          }
          // 1024 + q as a half less 1024: exact.
          let magic = Lanes<UInt32>(repeating: 0x6400_6400)
          let numbers = Half2.subtract(codes.mapWords { $0 | 0x6400_6400 }, magic)
          pairs[pair] = Half2.fma(numbers, scale, minimum)
        }
        // Columns that there are not have no minimum either.
        for lane in 0..<32 {
          for pair in 0..<4 {
            let left =
              latents.width - place[lane].column - 8 * quarter - 2 * pair
            if left >= 2, place[lane].position < held { continue }
            pairs[pair][lane] =
              left == 1 && place[lane].position < held ? pairs[pair][lane] & 0xFFFF : 0
          }
        }
        let to = lanes { lane in
          start
            + tile.byteOffset(
              row: place[lane].position,
              column: (place[lane].column - chunk * tile.columns) % tile.columns + 8 * quarter)
        }
        try warp.storeShared(pairs, at: to, mask: there, site: sites.store)
      }
      // Of 32 codes: a shift and an and for four of a unit, a `prmt` a pair, of 3 bits the high one by
      // a shift, an and and an or; a subtraction and a fused multiply-add a pair.
      warp.count(.integer, 2 * 8 + 16 + (bits == 3 ? 3 * 8 : 0) + 2)
      warp.count(.half2, 32)
    }
  }

  /// Code `element` of a whole chunk's words: unit element / 4, byte element mod 4 (see `qk_latent.h`).
  private func code(_ words: [Lanes<UInt32>], _ lane: Int, _ element: Int) -> UInt32 {
    let unit = element / 4
    let byte = UInt32(element % 4 * 8)
    if bits == 4 { return words[unit / 2][lane] >> (byte + UInt32(unit % 2 * 4)) & 15 }
    let low = words[unit / 4][lane] >> (byte + UInt32(unit % 4 * 2)) & 3
    return bits == 2 ? low : low | (words[2][lane] >> (byte + UInt32(unit)) & 1) << 2
  }

  private func restCode(_ words: [Lanes<UInt32>], _ lane: Int, _ element: Int) -> UInt32 {
    let bit = element * bits
    var value = UInt64(words[bit / 32][lane])
    if bit / 32 + 1 < words.count { value |= UInt64(words[bit / 32 + 1][lane]) << 32 }
    return UInt32(truncatingIfNeeded: value >> UInt64(bit % 32)) & (1 << UInt32(bits) - 1)
  }
}
