import CQuantKernels
import Synchronization

/// Moves rows of GGUF blocks into panels, integers and scales unchanged.
///
/// Element j of a block and its code follow ggml's block definitions: in Q4_0, Q4_1, Q5_0 and Q5_1
/// byte j holds element j in its low and j + 16 in its high nibble; in Q4_K and Q5_K the 32 bytes
/// of a pair of sub-blocks hold the first sub-block in their low and the second in their high
/// nibbles; Q6_K likewise in runs of 128.
struct BlockPacker: Sendable {
  let type: GGMLType
  let format: qk_format
  /// Blocks in a panel.
  let blocks: Int
  let columns: Int
  let nibbles: PanelTile
  let bytes: PanelTile

  /// Packs one row as lane `lane` of a panel; false when a scale or value is NaN or infinite.
  func pack(row: UnsafeRawPointer, lane: Int, into panel: UnsafeMutableRawPointer) -> Bool {
    switch type {
    case .f16, .bf16, .f32: packDense(row, lane, panel)
    case .q4_k, .q5_k: packQ4K(row, lane, panel)
    case .q6_k: packQ6K(row, lane, panel)
    case .tq1_0: packTernary(.one, row, lane, panel)
    case .tq2_0: packTernary(.two, row, lane, panel)
    default: packSmall(row, lane, panel)
    }
  }

  // MARK: Pieces

  @inline(__always)
  private func half(_ at: UnsafeRawPointer) -> UInt16 {
    UInt16(littleEndian: at.loadUnaligned(as: UInt16.self))
  }

  /// Stores a binary16 into a head and tells whether it is finite.
  @inline(__always)
  private func move(_ from: UnsafeRawPointer, _ to: UnsafeMutableRawPointer) -> Bool {
    let bits = half(from)
    to.storeBytes(of: bits, as: UInt16.self)
    return HalfPrecision.isFinite(half: bits)
  }

  /// ORs a 4-bit code into its nibble of a group.
  @inline(__always)
  private func put(
    nibble code: UInt8, _ lane: Int, _ column: Int, _ group: UnsafeMutablePointer<UInt8>
  ) {
    let bit = nibbles.rows[lane] &+ nibbles.columns[column]
    group[qk_nibble_at(format, bit >> 3)] |= code << UInt8(truncatingIfNeeded: bit & 7)
  }

  /// Where an 8-bit code stands in a group's eight steps, and with it the step and the byte in the
  /// step.
  @inline(__always)
  private func byteIndex(_ lane: Int, _ column: Int) -> Int {
    (bytes.rows[lane] &+ bytes.columns[column]) >> 3
  }

  // MARK: Formats

  private func packDense(_ row: UnsafeRawPointer, _ lane: Int, _ panel: UnsafeMutableRawPointer)
    -> Bool
  {
    var finite = true
    let lanes = PackedWeights.panelRows
    for k in 0..<columns {
      if type == .f32 {
        let bits = UInt32(littleEndian: row.loadUnaligned(fromByteOffset: 4 * k, as: UInt32.self))
        finite = finite && bits & 0x7F80_0000 != 0x7F80_0000
        panel.storeBytes(of: bits, toByteOffset: 4 * (k * lanes + lane), as: UInt32.self)
      } else {
        let bits = half(row + 2 * k)
        let exponent: UInt16 = type == .f16 ? 0x7C00 : 0x7F80
        finite = finite && bits & exponent != exponent
        panel.storeBytes(of: bits, toByteOffset: 2 * (k * lanes + lane), as: UInt16.self)
      }
    }
    return finite
  }

  /// The 32-element types: one block is one group.
  private func packSmall(_ row: UnsafeRawPointer, _ lane: Int, _ panel: UnsafeMutableRawPointer)
    -> Bool
  {
    let head = qk_head_bytes(format)
    let stride = qk_block_bytes(format, 1)
    var finite = true
    for block in 0..<blocks {
      let source = row + block * type.blockBytes
      let out = panel + block * stride
      let codes = (out + head).assumingMemoryBound(to: UInt8.self)
      finite = move(source, out + 2 * lane) && finite
      if type == .q4_1 || type == .q5_1 { finite = move(source + 2, out + 32 + 2 * lane) && finite }
      switch type {
      case .q4_0, .q4_1:
        let packed = (source + (type == .q4_0 ? 2 : 4)).assumingMemoryBound(to: UInt8.self)
        for j in 0..<16 {
          put(nibble: packed[j] & 15, lane, j, codes)
          put(nibble: packed[j] >> 4, lane, j + 16, codes)
        }
      case .q5_0, .q5_1:
        let high = UInt32(
          littleEndian: (source + (type == .q5_0 ? 2 : 4)).loadUnaligned(as: UInt32.self))
        let packed = (source + (type == .q5_0 ? 6 : 8)).assumingMemoryBound(to: UInt8.self)
        // Q5_0 is centred on 16, and an int8 code on 128.
        let bias: UInt8 = type == .q5_0 ? 128 - 16 : 0
        for j in 0..<16 {
          let low = packed[j] & 15 | UInt8(truncatingIfNeeded: high >> UInt32(j) & 1) << 4
          let top = packed[j] >> 4 | UInt8(truncatingIfNeeded: high >> UInt32(j + 16) & 1) << 4
          codes[byteIndex(lane, j)] = low &+ bias
          codes[byteIndex(lane, j + 16)] = top &+ bias
        }
      default:  // Q8_0: signed codes, stored above 128
        let signed = (source + 2).assumingMemoryBound(to: UInt8.self)
        for j in 0..<32 { codes[byteIndex(lane, j)] = signed[j] &+ 128 }
      }
    }
    return finite
  }

  /// Q4_K and Q5_K: d, dmin, 12 bytes of 6-bit scales and minimums, [32 bytes of fifth bits,] 128
  /// bytes of nibbles.
  private func packQ4K(_ row: UnsafeRawPointer, _ lane: Int, _ panel: UnsafeMutableRawPointer)
    -> Bool
  {
    let head = qk_head_bytes(format)
    let stride = qk_block_bytes(format, 8)
    let groupBytes = qk_subgroup_bytes(format)
    var finite = true
    for block in 0..<blocks {
      let source = row + block * type.blockBytes
      let out = panel + block * stride
      finite = move(source, out + 2 * lane) && finite
      finite = move(source + 2, out + 32 + 2 * lane) && finite
      let scales = (source + 4).assumingMemoryBound(to: UInt8.self)
      let fifth = (source + 16).assumingMemoryBound(to: UInt8.self)
      let packed = (source + (type == .q5_k ? 48 : 16)).assumingMemoryBound(to: UInt8.self)
      for sub in 0..<8 {
        let scale: UInt8
        let minimum: UInt8
        if sub < 4 {
          scale = scales[sub] & 63
          minimum = scales[sub + 4] & 63
        } else {
          scale = scales[sub + 4] & 15 | (scales[sub - 4] >> 6) << 4
          minimum = scales[sub + 4] >> 4 | (scales[sub] >> 6) << 4
        }
        out.storeBytes(of: scale, toByteOffset: 64 + 16 * sub + lane, as: UInt8.self)
        out.storeBytes(of: minimum, toByteOffset: 64 + 128 + 16 * sub + lane, as: UInt8.self)
        let codes = (out + head + sub * groupBytes).assumingMemoryBound(to: UInt8.self)
        let shift = UInt8(sub % 2 * 4)
        for j in 0..<32 {
          put(nibble: packed[sub / 2 * 32 + j] >> shift & 15, lane, j, codes)
          if type == .q5_k, fifth[j] >> UInt8(sub) & 1 != 0 {
            // Bit s of byte i of the plane belongs to byte i of step s.
            let (step, place) = byteIndex(lane, j).quotientAndRemainder(dividingBy: 64)
            codes[qk_plane_at(format, step) + place] |= 1 << UInt8(step)
          }
        }
      }
    }
    return finite
  }

  /// Q6_K: 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales, d.
  private func packQ6K(_ row: UnsafeRawPointer, _ lane: Int, _ panel: UnsafeMutableRawPointer)
    -> Bool
  {
    let head = qk_head_bytes(format)
    let stride = qk_block_bytes(format, 8)
    let groupBytes = qk_subgroup_bytes(format)
    var finite = true
    for block in 0..<blocks {
      let source = row + block * type.blockBytes
      let out = panel + block * stride
      let low = source.assumingMemoryBound(to: UInt8.self)
      let high = (source + 128).assumingMemoryBound(to: UInt8.self)
      let scales = (source + 192).assumingMemoryBound(to: UInt8.self)
      finite = move(source + 208, out + 2 * lane) && finite
      for scale in 0..<16 {
        out.storeBytes(of: scales[scale], toByteOffset: 32 + 16 * scale + lane, as: UInt8.self)
      }
      for sub in 0..<8 {
        let codes = (out + head + sub * groupBytes).assumingMemoryBound(to: UInt8.self)
        let run = sub / 4  // 128 elements: 64 low bytes, 32 high bytes
        let quarter = sub % 4  // of 32 elements
        for j in 0..<32 {
          let nibble = low[run * 64 + quarter % 2 * 32 + j] >> UInt8(quarter / 2 * 4) & 15
          let pair = high[run * 32 + j] >> UInt8(quarter * 2) & 3
          put(nibble: nibble, lane, j, codes)
          let (step, place) = byteIndex(lane, j).quotientAndRemainder(dividingBy: 64)
          codes[qk_plane_at(format, step) + place] |= pair << UInt8(2 * (step % 4))
        }
      }
    }
    return finite
  }

  /// TQ1_0 and TQ2_0 as Q4_0: eight groups of 32 with the block's scale.
  private func packTernary(
    _ kind: TQBlock, _ row: UnsafeRawPointer, _ lane: Int, _ panel: UnsafeMutableRawPointer
  ) -> Bool {
    let head = qk_head_bytes(format)
    let stride = qk_block_bytes(format, 1)
    var finite = true
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: TQBlock.elements) { ternary in
      for block in 0..<columns / TQBlock.elements {
        let source = row + block * kind.bytes
        kind.unpack(UnsafeRawBufferPointer(start: source, count: kind.bytes), into: ternary)
        for group in 0..<8 {
          let out = panel + (block * 8 + group) * stride
          let codes = (out + head).assumingMemoryBound(to: UInt8.self)
          finite = move(source + kind.codeBytes, out + 2 * lane) && finite
          for j in 0..<32 { put(nibble: ternary[32 * group + j] + 7, lane, j, codes) }
        }
      }
    }
    return finite
  }
}

/// The first row that a parallel pass found damaged.
final class DamageReport: Sendable {
  private let row = Atomic<Int>(Int.max)

  func note(_ found: Int) { row.min(found, ordering: .relaxed) }

  var first: Int? {
    let found = row.load(ordering: .relaxed)
    return found == Int.max ? nil : found
  }
}
