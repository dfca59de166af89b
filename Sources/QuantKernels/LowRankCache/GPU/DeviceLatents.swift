import CQuantKernels
import DeviceModel

/// Latents (or whole keys or values) of a decode step in a simulated device's memory.
///
/// A *unit* is what query heads share: a group of heads, or one head where nothing is low-rank.
/// Binary16 stands `[unit][position][width]`, rows padded to 16 bytes, as the paper's kernel wants it.
/// Packed codes stand in the blocks of 16 positions of ``LowRankCache``, keys and values alike in the
/// order of keys: in a chunk of 32 latents the b words of a position hold them all, so that
/// neighboring lanes read neighboring words and each unpacks what is its own.
public struct DeviceLatents: Sendable {
  /// Binary16, or 4, 3 or 2 bits.
  public let type: LatentType
  /// Groups of latents, or heads where keys are whole.
  public let units: Int
  /// Cached positions.
  public let positions: Int
  /// Numbers of a position in a unit.
  public let width: Int
  let buffer: GlobalBuffer
  /// Bytes from unit to unit: whole lines of 128.
  let unitBytes: Int

  /// Bytes that the device keeps for a position in a unit, scale and minimum counted.
  public var bytesPerPosition: Int { Self.bytes(type, width) }

  var isPacked: Bool { type.isPacked }

  private static func bytes(_ type: LatentType, _ width: Int) -> Int {
    type.isPacked ? type.bytes(width: width) : (width + 7) / 8 * 16
  }

  /// Zeros, for runs that only count.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that are none (1…4096 units, 1…2²⁴
  ///   positions, widths of 1…8192) or pass 4 GiB; `.unsupported` for types other than binary16 and 4,
  ///   3 and 2 bits.
  public init(
    zeros name: String, type: LatentType, units: Int, positions: Int, width: Int
  ) throws(QuantError) {
    guard [.f16, .fourBit, .threeBit, .twoBit].contains(type) else {
      throw QuantError(
        .unsupported, "\(name) on a simulated GPU", "latents of \(type.bits) bits",
        remedy: "use 16, 4, 3 or 2")
    }
    guard 1...4096 ~= units, 1...1 << 24 ~= positions, 1...Int(QK_LATENT_MOST_WIDTH) ~= width else {
      throw QuantError(
        .invalidArgument, "\(name) on a simulated GPU",
        "\(units) groups, \(positions) positions, \(width) numbers",
        remedy: "use 1 to 4096, 1 to 2²⁴, 1 to 8192")
    }
    self.type = type
    self.units = units
    self.positions = positions
    self.width = width
    // Whole blocks of 16 positions; at most 2¹² · 2²⁴ · 2¹⁴: no overflow.
    let held = (positions + 15) / 16 * 16 * Self.bytes(type, width)
    unitBytes = (held + 127) / 128 * 128
    let all = units * unitBytes
    buffer = try QuantError.translating { try GlobalBuffer(name, byteCount: all) }
  }

  /// Latents `[positions][units · width]`, as ``LowRankCache`` takes them.
  ///
  /// - Throws: as ``init(zeros:type:units:positions:width:)``; `.invalidArgument` for another number of
  ///   values, `.invalidData` for one that is not finite or that the type cannot hold.
  public init(
    _ name: String, _ values: [Float], type: LatentType, units: Int, positions: Int, width: Int
  ) throws(QuantError) {
    let shape = try DeviceLatents(
      zeros: name, type: type, units: units, positions: positions, width: width)
    guard values.count == positions * units * width else {
      throw QuantError(
        .invalidArgument, name, "\(values.count) values for \(positions) · \(units) · \(width)",
        remedy: "pass one number a latent")
    }
    var bytes = [UInt8](repeating: 0, count: units * shape.unitBytes)
    for position in 0..<positions {
      for unit in 0..<units {
        let first = (position * units + unit) * width
        let row = values[first..<first + width]
        let place = unit * shape.unitBytes
        guard type.isPacked else {
          for (index, value) in row.enumerated() {
            let half = HalfPrecision.half(value)
            guard HalfPrecision.isFinite(half: half) else {
              throw QuantError(
                .invalidData, name, "\(value) at position \(position), group \(unit)",
                remedy: "latents must be finite and below 65,520")
            }
            let at = place + position * shape.bytesPerPosition + 2 * index
            bytes[at] = UInt8(truncatingIfNeeded: half)
            bytes[at + 1] = UInt8(truncatingIfNeeded: half >> 8)
          }
          continue
        }
        let latent = try QuantizedLatent(Array(row), bits: type.bits)
        bytes.withUnsafeMutableBytes { bytes in
          guard let base = bytes.baseAddress else { return }
          qk_latent_store_codes(
            type.kernelType, 0, latent.codes, latent.scale, latent.minimum, width, position % 16,
            base + place + position / 16 * shape.blockBytes)
        }
      }
    }
    self.type = type
    self.units = units
    self.positions = positions
    self.width = width
    unitBytes = shape.unitBytes
    buffer = try QuantError.translating { try GlobalBuffer(name, bytes) }
  }

  /// Bytes of a block of 16 positions, packed.
  var blockBytes: Int { 16 * bytesPerPosition }

  /// Where a position's row or, of packed codes, its block begins; the position a multiple of 16.
  func offset(unit: Int, position: Int) -> Int { unit * unitBytes + position * bytesPerPosition }
}
