#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// An orthogonal matrix with even entries that spreads each coordinate over all, for any rank.
///
/// `R = T_q ⊗ H_{2^p}` with rank = q·2^p, q odd: H is Sylvester's Hadamard matrix over √2^p, and T
/// the discrete Hartley transform of length q, `T[j, k] = (cos + sin)(2π jk / q) / √q`. Both are
/// symmetric and orthogonal, hence so is R: `R = Rᵀ = R⁻¹`. For a power of two this is the plain
/// Hadamard rotation of QuaRot (arXiv 2404.00456); for every other rank no entry exceeds √(2 / rank),
/// so a coordinate that dwarfs the others loses its peak all the same, and no table of sporadic
/// Hadamard matrices, of which ranks such as 800 have none, is needed.
public struct HadamardRotation: Sendable, Equatable {
  /// r: latents that are turned.
  public let rank: Int
  /// q, the odd part of the rank.
  let oddPart: Int
  /// 2^p.
  let powerOfTwo: Int
  /// `(cos + sin)(2π i / q) / √rank` for i in 0..<q: both factors' scales are in it.
  private let cas: [Double]

  /// Ranks that a rotation can be made for.
  public static let possibleRanks = 1...(1 << 16)

  /// - Throws: ``QuantError`` `.invalidArgument` for a rank outside 1…65536.
  public init(rank: Int) throws(QuantError) {
    guard Self.possibleRanks.contains(rank) else {
      throw QuantError(
        .invalidArgument, "rotation", "rank \(rank) is outside 1…\(Self.possibleRanks.upperBound)",
        remedy: "rotate fewer elements at a time")
    }
    self.rank = rank
    powerOfTwo = 1 << rank.trailingZeroBitCount
    let odd = rank >> rank.trailingZeroBitCount
    oddPart = odd
    let scale = 1 / Double(rank).squareRoot()
    cas = (0..<odd).map { index in
      let angle = 2 * Double.pi * Double(index) / Double(odd)
      return scale * (cos(angle) + sin(angle))
    }
  }

  /// Entry of a row and a column, each 0..<rank.
  public subscript(row: Int, column: Int) -> Double {
    let value = cas[(row / powerOfTwo) * (column / powerOfTwo) % oddPart]
    let bits = (row % powerOfTwo) & (column % powerOfTwo)
    return bits.nonzeroBitCount % 2 == 0 ? value : -value
  }

  /// The matrix, `[rank × rank]`.
  public var matrix: [Double] {
    var entries: [Double] = []
    entries.reserveCapacity(rank * rank)
    for row in 0..<rank { for column in 0..<rank { entries.append(self[row, column]) } }
    return entries
  }

  /// `x = R x` for the `rank` elements at `x`, `x + stride`, …; `scratch` holds `rank`.
  ///
  /// - Complexity: O(rank · (q + p)).
  public func apply(
    _ x: UnsafeMutablePointer<Double>, stride: Int = 1, scratch: UnsafeMutablePointer<Double>
  ) {
    // H along the low index, unscaled.
    var half = 1
    while half < powerOfTwo {
      var first = 0
      while first < rank {
        for index in first..<first + half {
          let a = x[index * stride]
          let b = x[(index + half) * stride]
          x[index * stride] = a + b
          x[(index + half) * stride] = a - b
        }
        first += 2 * half
      }
      half *= 2
    }
    // T along the high index, with the whole scale.
    for index in 0..<rank { scratch[index] = x[index * stride] }
    for row in 0..<oddPart {
      for low in 0..<powerOfTwo {
        var sum = 0.0
        var phase = 0
        for column in 0..<oddPart {
          sum += cas[phase] * scratch[column * powerOfTwo + low]
          phase += row
          if phase >= oddPart { phase -= oddPart }
        }
        x[(row * powerOfTwo + low) * stride] = sum
      }
    }
  }

  /// Folds the rotation into two factors, so that nothing is left to do when they are used:
  /// `A' = R A`, `B' = B Rᵀ`, `B' A' = B A`.
  ///
  /// - Parameters:
  ///   - down: A, `[rank × columns]`.
  ///   - up: B, `[rows × rank]`.
  /// - Throws: ``QuantError`` `.invalidArgument` when a factor is no whole number of rows.
  public func fold(into down: inout [Double], _ up: inout [Double]) throws(QuantError) {
    guard down.count % rank == 0, up.count % rank == 0 else {
      throw QuantError(
        .invalidArgument, "factors", "\(down.count) and \(up.count) values at rank \(rank)",
        remedy: "pass [rank × columns] and [rows × rank]")
    }
    let columns = down.count / rank
    let rows = up.count / rank
    withUnsafeTemporaryAllocation(of: Double.self, capacity: rank) { scratch in
      guard let scratch = scratch.baseAddress else { return }
      down.withUnsafeMutableBufferPointer { down in
        guard let down = down.baseAddress else { return }
        for column in 0..<columns { apply(down + column, stride: columns, scratch: scratch) }
      }
      up.withUnsafeMutableBufferPointer { up in
        guard let up = up.baseAddress else { return }
        for row in 0..<rows { apply(up + row * rank, scratch: scratch) }
      }
    }
  }
}
