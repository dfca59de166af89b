import CDeviceModel

/// Matrices of a warp-wide `ldmatrix` or `stmatrix`.
public enum MatrixCount: Int, Sendable, Hashable {
  /// One 8×8 matrix; lanes 0–7 hold row addresses.
  case x1 = 1
  /// Two; lanes 0–15.
  case x2 = 2
  /// Four; all lanes.
  case x4 = 4

  /// The lanes that hold row addresses.
  public var mask: LaneMask { .first(8 * rawValue) }
}

extension Warp {
  /// `ldmatrix`: 8×8 matrices of halves from shared memory, placed as a tensor-core operand; register
  /// r is matrix r, unused registers are 0. Lane 8m + r holds the address of row r of matrix m.
  ///
  /// Source: PTX ISA, ldmatrix; ``Fragment/ldmatrixX4`` and its kin are the maps.
  ///
  /// - Throws: as a 16-byte load of those addresses.
  public mutating func loadMatrix(
    _ count: MatrixCount, transposed: Bool = false, at rows: Lanes<UInt32>, site: Int
  ) throws(DeviceError) -> Registers4 {
    try requireSite(site)
    try requireFaultless(rows, count.mask, 16, shared.byteCount, "shared", site)
    if isChecked { try checkShared(rows, count.mask, 16, isStore: false, site) }
    countShared(.ldmatrix, rows, count.mask, 16, site)
    var registers = Registers4()
    unsafe withUnsafeMutableBytes(of: &registers) { out in
      unsafe withUnsafeBytes(of: rows) { rows in
        unsafe cdm_ldmatrix(
          out.baseAddress?.assumingMemoryBound(to: UInt32.self), shared.bytes,
          rows.baseAddress?.assumingMemoryBound(to: UInt32.self), Int32(count.rawValue),
          transposed ? 1 : 0)
      }
    }
    return registers
  }

  /// `stmatrix` (compute capability 9.0): the mirror image of ``loadMatrix(_:transposed:at:site:)``.
  ///
  /// - Throws: as a 16-byte store to those addresses.
  public mutating func storeMatrix(
    _ registers: Registers4, _ count: MatrixCount, transposed: Bool = false,
    at rows: Lanes<UInt32>, site: Int
  ) throws(DeviceError) {
    try requireSite(site)
    try requireFaultless(rows, count.mask, 16, shared.byteCount, "shared", site)
    if isChecked { try checkShared(rows, count.mask, 16, isStore: true, site) }
    countShared(.stmatrix, rows, count.mask, 16, site)
    unsafe withUnsafeBytes(of: registers) { values in
      unsafe withUnsafeBytes(of: rows) { rows in
        unsafe cdm_stmatrix(
          values.baseAddress?.assumingMemoryBound(to: UInt32.self), shared.bytes,
          rows.baseAddress?.assumingMemoryBound(to: UInt32.self), Int32(count.rawValue),
          transposed ? 1 : 0)
      }
    }
  }

  /// `mma.m16n8k16`: adds A·B of binary16 to float32 sums.
  ///
  /// The vendor leaves the order of the sum open. Declared here: the 16 products in k order, each
  /// fused into the float32 sum.
  public mutating func multiply(
    _ a: Registers4, _ b: Registers2, addingTo sum: inout FloatAccumulator
  ) {
    unsafe tally.matrix[MatrixShape.m16n8k16.tallyIndex] += 1
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &sum) { c in
          unsafe cdm_mma_m16n8k16(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            c.baseAddress?.assumingMemoryBound(to: Float.self))
        }
      }
    }
  }

  /// Two `mma.m16n8k16` that share A: registers 0 and 1 of `b` go into `sums[index]`, 2 and 3 into
  /// `sums[index + 1]`.
  ///
  /// - Throws: ``DeviceError`` when `sums` has no such elements.
  @inlinable
  public mutating func multiply(
    _ a: Registers4, _ b: Registers4, addingTo sums: inout [FloatAccumulator], at index: Int
  ) throws(DeviceError) {
    guard index >= 0, index < sums.count - 1 else { throw noSums(index, sums.count) }
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe sums.withUnsafeMutableBytes { c in
          unsafe multiplyPair(a.baseAddress, b.baseAddress, c.baseAddress, index)
        }
      }
    }
  }

  @usableFromInline
  mutating func multiplyPair(
    _ a: UnsafeRawPointer?, _ b: UnsafeRawPointer?, _ sums: UnsafeMutableRawPointer?, _ index: Int
  ) {
    unsafe tally.matrix[MatrixShape.m16n8k16.tallyIndex] += 2
    let first = unsafe b?.assumingMemoryBound(to: UInt32.self)
    unsafe cdm_mma_m16n8k16_pair(
      a?.assumingMemoryBound(to: UInt32.self), first, first?.advanced(by: 64),
      sums?.advanced(by: index * MemoryLayout<FloatAccumulator>.stride)
        .assumingMemoryBound(to: Float.self))
  }

  @usableFromInline
  func noSums(_ index: Int, _ count: Int) -> DeviceError {
    DeviceError(
      .invalidArgument, "\(kernelName), block \(block) warp \(self.index)",
      "sums \(index) and \(index + 1) of \(count)", remedy: "make room for both", limit: count)
  }

  /// `mma.m16n8k32`: adds A·B of bytes to int32 sums, exactly, wrapping.
  public mutating func multiply(
    _ a: Registers4, _ b: Registers2, addingTo sum: inout IntegerAccumulator,
    unsignedA: Bool = false, unsignedB: Bool = false
  ) {
    unsafe tally.matrix[MatrixShape.m16n8k32.tallyIndex] += 1
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &sum) { c in
          unsafe cdm_mma_m16n8k32(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            c.baseAddress?.assumingMemoryBound(to: Int32.self),
            (unsignedA ? 1 : 0) | (unsignedB ? 2 : 0))
        }
      }
    }
  }

  /// Volta's `mma.m8n8k4`: four independent 8×8×4 products of quad-pairs, four products in k order
  /// fused into each float32 sum. Operands are placed by ``Fragment/voltaARowMajor`` or its
  /// column-major twin and ``Fragment/voltaBColumnMajor`` or its row-major twin.
  public mutating func multiplyVolta(
    _ a: Registers2, _ b: Registers2, addingTo sum: inout VoltaAccumulator,
    columnMajorA: Bool = false, rowMajorB: Bool = false
  ) {
    unsafe tally.matrix[MatrixShape.m8n8k4.tallyIndex] += 1
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &sum) { c in
          unsafe cdm_mma_m8n8k4(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            c.baseAddress?.assumingMemoryBound(to: Float.self),
            (columnMajorA ? 1 : 0) | (rowMajorB ? 2 : 0))
        }
      }
    }
  }

  /// The same with the sum in two neighbors of an array: elements 0…3 in `sums[index]`, 4…7 in
  /// `sums[index + 1]`.
  ///
  /// - Throws: ``DeviceError`` when `sums` has no such elements.
  @inlinable
  public mutating func multiplyVolta(
    _ a: Registers2, _ b: Registers2, addingTo sums: inout [FloatAccumulator], at index: Int,
    columnMajorA: Bool = false, rowMajorB: Bool = false
  ) throws(DeviceError) {
    guard index >= 0, index < sums.count - 1 else { throw noSums(index, sums.count) }
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe sums.withUnsafeMutableBytes { c in
          unsafe multiplyQuadPairs(
            a.baseAddress, b.baseAddress, c.baseAddress, index,
            orders: (columnMajorA ? 1 : 0) | (rowMajorB ? 2 : 0))
        }
      }
    }
  }

  @usableFromInline
  mutating func multiplyQuadPairs(
    _ a: UnsafeRawPointer?, _ b: UnsafeRawPointer?, _ sums: UnsafeMutableRawPointer?, _ index: Int,
    orders: Int32
  ) {
    unsafe tally.matrix[MatrixShape.m8n8k4.tallyIndex] += 1
    unsafe cdm_mma_m8n8k4(
      a?.assumingMemoryBound(to: UInt32.self), b?.assumingMemoryBound(to: UInt32.self),
      sums?.advanced(by: index * MemoryLayout<FloatAccumulator>.stride)
        .assumingMemoryBound(to: Float.self), orders)
  }

  /// `mma.m8n8k4` with binary16 sums, placed by ``Fragment/voltaCHalf``: register r holds columns 2r
  /// and 2r + 1.
  ///
  /// The vendor leaves the rounding inside open. Declared here: the four products in k order fused
  /// into a float32 sum that starts from the old one, and one rounding to binary16 an instruction.
  /// Long sums lose bits and overflow past 65,504; nothing uses it unasked.
  public mutating func multiplyVolta(
    _ a: Registers2, _ b: Registers2, addingToHalves sum: inout Registers4,
    columnMajorA: Bool = false, rowMajorB: Bool = false
  ) {
    unsafe tally.matrix[MatrixShape.m8n8k4.tallyIndex] += 1
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &sum) { c in
          unsafe cdm_mma_m8n8k4_half(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            c.baseAddress?.assumingMemoryBound(to: UInt32.self),
            (columnMajorA ? 1 : 0) | (rowMajorB ? 2 : 0))
        }
      }
    }
  }

  // MARK: Shuffles

  /// `shfl.idx`: each lane gets the value of lane `sources[lane]` mod 32.
  public mutating func shuffle(
    _ value: Lanes<UInt32>, from sources: Lanes<UInt32>
  ) -> Lanes<UInt32> {
    count(.shuffle, 1)
    return Lanes<UInt32>.each { value[Int(sources[Int($0)] & 31)] }
  }

  /// `shfl.bfly`: each lane gets the value of lane xor `mask`.
  public mutating func shuffle(_ value: Lanes<UInt32>, xor mask: Int) -> Lanes<UInt32> {
    count(.shuffle, 1)
    return Lanes<UInt32>.each { value[Int($0) ^ (mask & 31)] }
  }

  /// `shfl.down` with a full width: lanes past the end keep their own value.
  public mutating func shuffle(_ value: Lanes<UInt32>, down distance: Int) -> Lanes<UInt32> {
    count(.shuffle, 1)
    return Lanes<UInt32>.each {
      let source = Int($0) + max(0, distance)
      return value[source < 32 ? source : Int($0)]
    }
  }
}
