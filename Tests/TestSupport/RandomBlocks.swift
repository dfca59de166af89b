import QuantKernels

/// Rows of random GGUF blocks: every bit of the codes random, scales of about 1/64, so that any
/// code and any packing mistake shows.
public func randomBlocks(
  _ type: GGMLType, rows: Int, columns: Int, using random: inout RepeatableRandom
) -> [UInt8] {
  let blocks = rows * columns / type.blockElements
  var bytes: [UInt8] = []
  bytes.reserveCapacity(blocks * type.blockBytes)
  func append(half value: Float) {
    let bits = HalfPrecision.half(value)
    bytes.append(UInt8(truncatingIfNeeded: bits))
    bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
  }
  func appendRandom(_ count: Int) {
    for _ in 0..<count { bytes.append(.random(in: 0...255, using: &random)) }
  }
  for _ in 0..<blocks {
    let scale =
      Float.random(in: 0.005..<0.02, using: &random) * (Bool.random(using: &random) ? 1 : -1)
    let minimum = Float.random(in: -0.2..<0.2, using: &random)
    switch type {
    case .f32:
      let bits = Float.random(in: -1..<1, using: &random).bitPattern
      for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(shift))) }
    case .f16: append(half: .random(in: -1..<1, using: &random))
    case .bf16:
      let bits = HalfPrecision.brain(.random(in: -1..<1, using: &random))
      bytes.append(UInt8(truncatingIfNeeded: bits))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
    case .q4_0, .q5_0, .q8_0:
      append(half: scale)
      appendRandom(type.blockBytes - 2)
    case .q4_1, .q5_1:
      append(half: scale)
      append(half: minimum)
      appendRandom(type.blockBytes - 4)
    case .q4_k, .q5_k:
      append(half: scale / 32)
      append(half: minimum / 32)
      appendRandom(type.blockBytes - 4)
    case .q6_k:
      appendRandom(type.blockBytes - 2)
      append(half: scale / 64)
    case .tq1_0, .tq2_0:
      appendRandom(type.blockBytes - 2)
      append(half: scale)
    case .i2_s: appendRandom(type.blockBytes)
    }
  }
  if type == .i2_s {
    let bits = Float.random(in: 0.005..<0.02, using: &random).bitPattern
    for shift in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(8 * shift))) }
    bytes += [UInt8](repeating: 0, count: type.tailBytes - 4)
  }
  return bytes
}
