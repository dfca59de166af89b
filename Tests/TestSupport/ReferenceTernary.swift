import QuantKernels

/// The activations of a ternary product as BitNet b1.58 quantizes them, one token at a time, in
/// scalar code: the definition that vectorized quantizers must equal bit for bit.
///
///     A = max(max |x|, 1e-5)     s = float32(127 / A)     a = clamp(roundHalfEven(float32(x · s)), −128…127)
///
/// Every operation is one in float32. A token of zeros has codes 0 and s = 127 / 1e-5. A token that
/// holds NaN or an infinity has codes 0 and s = NaN, so that all its outputs are NaN and no other
/// token's are touched.
public struct TernaryActivations: Sendable, Equatable {
  /// Tokens.
  public let count: Int
  /// Inputs, K.
  public let columns: Int
  /// `[count · columns]`.
  public private(set) var codes: [Int8] = []
  /// s of each token, `[count]`.
  public private(set) var scales: [Float] = []
  /// Σ a of each token, `[count]`.
  public private(set) var sums: [Int64] = []

  public init(_ x: [Float], count: Int, columns: Int) {
    precondition(x.count == count * columns)
    self.count = count
    self.columns = columns
    for token in 0..<count {
      let row = x[token * columns..<(token + 1) * columns]
      guard row.allSatisfy({ $0.isFinite }) else {
        codes += [Int8](repeating: 0, count: columns)
        scales.append(.nan)
        sums.append(0)
        continue
      }
      let scale = 127 / row.reduce(Float(1e-5)) { max($0, $1.magnitude) }
      scales.append(scale)
      let first = codes.count
      for value in row {
        let rounded = (value * scale).rounded(.toNearestOrEven)
        codes.append(Int8(min(max(rounded, -128), 127)))
      }
      sums.append(codes[first...].reduce(0) { $0 + Int64($1) })
    }
  }
}

extension TernaryMatrix {
  /// Σ a · w of every token and row, `[count · rows]`, by the naive triple loop in int64.
  public func referenceSums(_ a: [Int8], count: Int) -> [Int64] {
    precondition(a.count == count * columns)
    var sums: [Int64] = []
    sums.reserveCapacity(count * rows)
    codes.withUnsafeBufferPointer { codes in
      a.withUnsafeBufferPointer { a in
        for token in 0..<count {
          for row in 0..<rows {
            var sum: Int64 = 0
            for k in 0..<columns {
              sum += Int64(a[token * columns + k]) * (Int64(codes[row * columns + k]) - 1)
            }
            sums.append(sum)
          }
        }
      }
    }
    return sums
  }

  /// y = float32(Σ a · w) · float32(s_w / s_a), `[count · rows]`: the one final expression that every
  /// lossless kernel must equal bit for bit.
  public func referenceProduct(_ x: [Float], count: Int) -> [Float] {
    let activations = TernaryActivations(x, count: count, columns: columns)
    let sums = referenceSums(activations.codes, count: count)
    return (0..<count * rows).map {
      Float(sums[$0]) * (scale(row: $0 % rows) / activations.scales[$0 / rows])
    }
  }
}

/// Activations as llama.cpp's `quantize_row_q8_K_ref` makes them, one token at a time in scalar
/// code: blocks of 256 with a scale each.
///
///     m = the first element of the largest magnitude     s = −127 / m     d = 1 / s
///     a = min(roundHalfEven(float32(x · s)), 127)
///
/// A block of zeros has d = 0 and codes 0. The last block may be short. A block with NaN or infinity
/// has codes 0 and d = NaN.
public struct Q8KActivations: Sendable, Equatable {
  public static let blockColumns = 256
  /// Blocks of a token.
  public let blocks: Int
  public let columns: Int
  /// `[count · columns]`.
  public private(set) var codes: [Int8] = []
  /// d of each token's blocks, `[count · blocks]`.
  public private(set) var scales: [Float] = []

  public init(_ x: [Float], count: Int, columns: Int) {
    precondition(x.count == count * columns)
    self.columns = columns
    blocks = (columns + Self.blockColumns - 1) / Self.blockColumns
    for token in 0..<count {
      for first in stride(from: 0, to: columns, by: Self.blockColumns) {
        let end = min(columns, first + Self.blockColumns)
        append(x[token * columns + first..<token * columns + end])
      }
    }
  }

  private mutating func append(_ block: ArraySlice<Float>) {
    guard block.allSatisfy({ $0.isFinite }) else {
      codes += [Int8](repeating: 0, count: block.count)
      scales.append(.nan)
      return
    }
    var largest: Float = 0
    for value in block where value.magnitude > largest.magnitude { largest = value }
    guard largest != 0 else {
      codes += [Int8](repeating: 0, count: block.count)
      scales.append(0)
      return
    }
    let inverse = -127 / largest
    for value in block {
      codes.append(Int8(min((value * inverse).rounded(.toNearestOrEven), 127)))
    }
    scales.append(1 / inverse)
  }
}

extension TernaryMatrix {
  /// Σ a · w of each token, row and block in int64, `[count][rows][blocks]`.
  public func blockSums(_ a: Q8KActivations, count: Int) -> [Int64] {
    var sums: [Int64] = []
    for token in 0..<count {
      for row in 0..<rows {
        for block in 0..<a.blocks {
          let first = block * Q8KActivations.blockColumns
          var sum: Int64 = 0
          for k in first..<min(columns, first + Q8KActivations.blockColumns) {
            sum += Int64(a.codes[token * columns + k]) * (Int64(codes[row * columns + k]) - 1)
          }
          sums.append(sum)
        }
      }
    }
    return sums
  }

  /// The product with Q8_K activations, `[count · rows]`: block after block, each operation rounded.
  public func blockProduct(_ x: [Float], count: Int) -> [Float] {
    let a = Q8KActivations(x, count: count, columns: columns)
    let sums = blockSums(a, count: count)
    return (0..<count * rows).map { output in
      (0..<a.blocks).reduce(Float(0)) { total, block in
        let d = a.scales[output / rows * a.blocks + block]
        let part = Float(sums[output * a.blocks + block]) * (d * scale(row: output % rows))
        return total + part
      }
    }
  }
}

/// The weights of the golden vectors: −1, 0, +1 from ANSI C's `rand` (x ← 1103515245 · x + 12345 mod
/// 2³¹ from 1, then (x >> 16) mod 3 − 1).
public func goldenTernaryWeights(_ count: Int) -> [Int8] {
  var x: UInt32 = 1
  return (0..<count).map { _ in
    x = (x &* 1_103_515_245 &+ 12345) & 0x7FFF_FFFF
    return Int8((x >> 16) % 3) - 1
  }
}
