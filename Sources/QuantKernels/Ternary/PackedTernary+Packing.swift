import CQuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Canonical ternary codes for the packer: 0, 1, 2 for −1, 0, +1, row-major, one a byte.
struct TernaryCodes {
  var rows: Int
  var columns: Int
  var codes: [UInt8]
  /// One scale for all rows, or one a row.
  var scales: [Float]
}

extension PackedTernary {
  /// Packs canonical codes, by integer moves only.
  ///
  /// - Throws: ``QuantError`` when a size, a code or a scale is not as `TernaryCodes` says, this
  ///   processor does not run `instructionSet`, or memory is short.
  /// - Complexity: O(rows · columns).
  convenience init(
    _ matrix: TernaryCodes, format: Format = .twoBit, instructionSet: InstructionSet = .best,
    pool: WorkerPool = .standard
  ) throws(QuantError) {
    try self.init(
      rows: matrix.rows, columns: matrix.columns, format: format, instructionSet: instructionSet)
    let subject = "ternary weights \(rows)×\(columns)"
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard !overflow, matrix.codes.count == count else {
      throw QuantError(
        .invalidArgument, subject, "\(matrix.codes.count) codes where \(rows) · \(columns) belong",
        remedy: "pass one byte a weight, row-major")
    }
    guard matrix.scales.count == 1 || matrix.scales.count == rows else {
      throw QuantError(
        .invalidArgument, subject, "\(matrix.scales.count) scales",
        remedy: "pass one scale, or one a row")
    }
    if let bad = matrix.scales.firstIndex(where: { !$0.isFinite }) {
      throw QuantError(
        .invalidData, subject, "scale \(matrix.scales[bad]) at \(bad)",
        remedy: "the weights hold NaN or infinity; export them again")
    }
    for row in 0..<rows { scaleValues[row] = matrix.scales[matrix.scales.count == 1 ? 0 : row] }

    let damaged = DamageReport()
    let places = try format.lookup == nil ? vectorPlaces() : []
    matrix.codes.withUnsafeBufferPointer { codes in
      let task = PackingTask(weights: self, codes: codes, places: places, damaged: damaged)
      pool.run(parts: panels, task)
    }
    if let row = damaged.first {
      let bad = matrix.codes[row * columns..<(row + 1) * columns].firstIndex { $0 > 2 } ?? 0
      throw QuantError(
        .invalidData, subject,
        "code \(matrix.codes[bad]) at row \(row), column \(bad - row * columns)",
        remedy: "codes are 0, 1, 2 for −1, 0, +1")
    }
  }

  /// Place of each code of a vector, `[16 outputs][k]`, in units of a byte's places.
  func vectorPlaces() throws(QuantError) -> [Int] {
    let steps = Int(qk_ternary_steps(format.panel))
    let width = steps * Int(kernels.pointee.step)
    let layout = try InterleavedLayout.ternaryPanels(
      rows: PackedTernary.panelRows, columns: width, fragment: instructionSet.weightFragment,
      stepsPerByte: steps)
    return (0..<PackedTernary.panelRows).flatMap { row in
      (0..<width).map { layout.bitOffset(row: row, column: $0) / layout.elementBits }
    }
  }

  private struct PackingTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let codes: UnsafeBufferPointer<UInt8>
    let places: [Int]
    let damaged: DamageReport

    func run(part panel: Int, worker: Int) {
      let out = weights.panelBytes(panel)
      let first = panel * PackedTernary.panelRows
      for lane in 0..<min(PackedTernary.panelRows, weights.rows - first) {
        let row = first + lane
        let codes = UnsafeBufferPointer(
          rebasing: codes[row * weights.columns..<(row + 1) * weights.columns])
        var most: UInt8 = 0
        for code in codes { most = max(most, code) }
        guard most <= 2 else {
          damaged.note(row)
          return
        }
        switch weights.format {
        case .twoBit, .blockQuantized: packPairsOfBits(codes, lane, out)
        case .fiveTrit: addDigits(codes, lane, out)
        case .lookupPairs, .lookupRoundedPairs: packIndices(codes, lane, out)
        case .lookupTriples: packMagnitudes(codes, lane, out)
        }
      }
      if weights.format == .fiveTrit { finishFractions(out) }
    }

    private func packPairsOfBits(
      _ codes: UnsafeBufferPointer<UInt8>, _ lane: Int, _ out: UnsafeMutablePointer<UInt8>
    ) {
      let width = places.count / PackedTernary.panelRows
      let vectorBytes = places.count / 4
      for (k, code) in codes.enumerated() {
        let (vector, column) = k.quotientAndRemainder(dividingBy: width)
        let place = places[lane * width + column]
        out[vector * vectorBytes + place >> 2] |= code << UInt8(2 * (place & 3))
      }
    }

    /// Adds each code at its digit, so that bytes hold plain base-3 numbers.
    private func addDigits(
      _ codes: UnsafeBufferPointer<UInt8>, _ lane: Int, _ out: UnsafeMutablePointer<UInt8>
    ) {
      let width = places.count / PackedTernary.panelRows
      let vectorBytes = places.count / 5
      let powers: [UInt8] = [81, 27, 9, 3, 1]
      for (k, code) in codes.enumerated() {
        let (vector, column) = k.quotientAndRemainder(dividingBy: width)
        let (byte, digit) = places[lane * width + column].quotientAndRemainder(dividingBy: 5)
        out[64 + vector * vectorBytes + byte] += code * powers[digit]
      }
    }

    /// Turns the base-3 numbers into fractions of 256 less 128, and puts the outputs' sums of
    /// weights in the head.
    private func finishFractions(_ out: UnsafeMutablePointer<UInt8>) {
      let step = Int(weights.kernels.pointee.step)
      let vectorBytes = PackedTernary.panelRows * step
      for lane in 0..<PackedTernary.panelRows {
        var sum: Int32 = 0
        for vector in 0..<weights.vectors {
          for element in 0..<step {
            // The fragments of all levels hold an output's k side by side.
            let byte = 64 + vector * vectorBytes + lane * step + element
            var number = Int(out[byte])
            out[byte] = UInt8((number * 256 + 242) / 243) ^ 128
            for _ in 0..<5 {
              sum += Int32(number % 3) - 1
              number /= 3
            }
          }
        }
        UnsafeMutableRawPointer(out).storeBytes(of: sum, toByteOffset: 4 * lane, as: Int32.self)
      }
    }

    private func packIndices(
      _ codes: UnsafeBufferPointer<UInt8>, _ lane: Int, _ out: UnsafeMutablePointer<UInt8>
    ) {
      func code(_ k: Int) -> UInt8 { k < codes.count ? codes[k] : 1 }
      for unit in 0..<weights.vectors {
        for pair in 0..<4 {
          let k = 8 * unit + 2 * pair
          let index = 3 * code(k) + code(k + 1)
          out[32 * unit + pair % 2 * 16 + lane] |= index << UInt8(pair / 2 * 4)
        }
      }
    }

    private func packMagnitudes(
      _ codes: UnsafeBufferPointer<UInt8>, _ lane: Int, _ out: UnsafeMutablePointer<UInt8>
    ) {
      func weight(_ k: Int) -> Int { k < codes.count ? Int(codes[k]) - 1 : 0 }
      for unit in 0..<weights.vectors {
        let bytes = out + 80 * unit
        for triple in 0..<8 {
          let k = 24 * unit + 3 * triple
          let value = 9 * weight(k) + 3 * weight(k + 1) + weight(k + 2)
          bytes[triple / 4 * 32 + triple % 2 * 16 + lane] |=
            UInt8(value.magnitude) << UInt8(triple % 4 / 2 * 4)
          if value < 0 { bytes[64 + lane] |= 128 >> UInt8(triple) }
        }
      }
    }
  }

  /// The same weights in memory of their own: benchmarks rotate through copies.
  ///
  /// - Throws: ``QuantError`` (`outOfMemory`) when memory is short.
  package func copied() throws(QuantError) -> PackedTernary {
    let copy = try PackedTernary(
      rows: rows, columns: columns, format: format, instructionSet: instructionSet)
    memcpy(copy.storage.base, storage.base, byteCount)
    memcpy(copy.scales.base, scales.base, scales.count)
    return copy
  }
}
