import CQuantKernels
import DeviceModel

extension InstructionSet {
  /// The instruction whose operand order weights are packed in. The three 4-k instructions give the
  /// same bits in a panel of 16 outputs, so weights packed for one serve the others and the scalar
  /// reference.
  var weightFragment: Fragment {
    switch self {
    case .neonI8mm: .smmla
    case .neonDotprod: .sdot
    case .avx2: .maddubs256
    case .scalar, .avx512vnni: .vpdpbusd512
    }
  }
}

/// Where a code of a panel's group of 32 goes: tables of the layout that the kernels read by, one
/// panel by 32 columns. `bit(row, column) = rows[row] + columns[column]`.
struct PanelTile {
  let rows: [Int]
  let columns: [Int]

  init(fragment: Fragment, elementBits: Int) throws(QuantError) {
    let layout = try InterleavedLayout.panels(
      rows: PackedWeights.panelRows, columns: 32, fragment: fragment, elementBits: elementBits,
      groupSize: 32)
    rows = layout.rowOffsets()
    columns = layout.columnOffsets()
  }
}

extension PackedWeights {
  /// Packs stacked blocks of rows of one GGUF type, e.g. the Q, K and V projections as one matrix.
  /// Nothing is requantised: codes, scales and minimums move as they are.
  ///
  /// - Parameters:
  ///   - parts: rows in the file's block format, row-major, stacked in this order.
  ///   - columns: inputs (K), a multiple of the type's block.
  ///   - name: what errors call the matrix.
  ///   - type: of all parts.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  ///   - pool: the threads that pack; nil: all processors.
  /// - Throws: ``QuantError`` when sizes do not match, a scale is not finite, or memory is short.
  /// - Complexity: O(rows · columns).
  public convenience init(
    type: GGMLType, parts: [(bytes: UnsafeRawBufferPointer, rows: Int)], columns: Int,
    name: String, instructionSet: InstructionSet = .best, pool: WorkerPool? = nil
  ) throws(QuantError) {
    let subject = "weights \(name)"
    guard columns > 0, let rowBytes = type.rowBytes(columns: columns) else {
      throw QuantError(
        .invalidData, subject,
        "\(columns) columns are no multiple of the \(type.blockElements) of a \(type.name) block",
        remedy: "convert the file again; it is damaged or was written for another type")
    }
    var rows = 0
    for part in parts {
      let (total, overflow) = rows.addingReportingOverflow(part.rows)
      guard part.rows > 0, !overflow,
        part.rows.multipliedReportingOverflow(by: rowBytes).partialValue == part.bytes.count,
        !part.rows.multipliedReportingOverflow(by: rowBytes).overflow
      else {
        throw QuantError(
          .invalidData, subject,
          "\(part.bytes.count) bytes where \(part.rows) rows of \(rowBytes) belong",
          remedy: "pass whole rows in \(type.name) blocks")
      }
      rows = total
    }
    let (format, blockColumns): (qk_format, Int) =
      switch type {
      case .q4_0: (QK_INT4_H, 32)
      case .q4_1: (QK_INT4_HM, 32)
      case .q5_0, .q8_0: (QK_INT8_H, 32)
      case .q5_1: (QK_UINT8_HM, 32)
      case .q4_k: (QK_Q4_K, 256)
      case .q5_k: (QK_Q5_K, 256)
      case .q6_k: (QK_Q6_K, 256)
      case .f16: (QK_F16, 32)
      case .bf16: (QK_BF16, 32)
      case .f32: (QK_F32, 32)
      // A ternary code q of scale d is the int4 code q + 7, which counts from 8.
      case .tq1_0, .tq2_0: (QK_INT4_H, 32)
      case .i2_s:
        throw QuantError(
          .unsupported, subject, "I2_S has a scale for the tensor, and panels have them by groups",
          remedy: "read it as a TernaryMatrix")
      }
    try self.init(
      rows: rows, columns: columns, typeName: type.name, format: format,
      blocks: (columns + blockColumns - 1) / blockColumns, subgroups: blockColumns / 32,
      instructionSet: instructionSet, inputPermutation: nil, name: name)

    // Row r of the stack lies at starts[r].
    var starts: [UnsafeRawPointer] = []
    starts.reserveCapacity(rows)
    for part in parts {
      guard let base = part.bytes.baseAddress else { continue }
      for row in 0..<part.rows { starts.append(base + row * rowBytes) }
    }
    let nibbles = try PanelTile(fragment: instructionSet.weightFragment, elementBits: 4)
    let bytes = try PanelTile(fragment: instructionSet.weightFragment, elementBits: 8)
    let packer = BlockPacker(
      type: type, format: format, blocks: blocks, columns: columns, nibbles: nibbles, bytes: bytes)
    let damaged = DamageReport()
    (pool ?? WorkerPool.standard).run(parts: panels) { panel, _ in
      for lane in 0..<min(PackedWeights.panelRows, rows - panel * PackedWeights.panelRows) {
        let row = panel * PackedWeights.panelRows + lane
        if !packer.pack(row: starts[row], lane: lane, into: storage.base + panel * panelStride) {
          damaged.note(row)
        }
      }
    }
    if let row = damaged.first {
      throw QuantError(
        .invalidData, subject, "row \(row) holds a scale or weight that is NaN or infinite",
        remedy: "the file is damaged or was made from a diverged model; get it again")
    }
  }

  /// Packs a canonical int4 matrix. Scales and minimums that binary16 holds exactly are stored so,
  /// others as float32.
  ///
  /// - Throws: ``QuantError`` when this processor does not run `instructionSet` or memory is short.
  /// - Complexity: O(rows · columns).
  public convenience init(
    _ matrix: Int4Matrix, name: String = "int4", instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    func isHalf(_ values: [Float]) -> Bool {
      values.allSatisfy { HalfPrecision.float(fromHalf: HalfPrecision.half($0)) == $0 }
    }
    let halves = isHalf(matrix.scales)
    let format: qk_format
    switch matrix.offsets {
    case .symmetric: format = halves ? QK_INT4_H : QK_INT4_F
    case .zeroPoints: format = halves ? QK_INT4_HZ : QK_INT4_FZ
    case .minimums(let minimums): format = halves && isHalf(minimums) ? QK_INT4_HM : QK_INT4_FM
    }
    let subgroups = (matrix.groupSize + 31) / 32
    try self.init(
      rows: matrix.rows, columns: matrix.columns, typeName: "INT4", format: format,
      blocks: matrix.groups,
      subgroups: subgroups, instructionSet: instructionSet,
      inputPermutation: matrix.inputPermutation, name: name)

    // The layout's gap behind a block's codes is the head of the next block; the first head stands
    // before everything.
    let head = qk_head_bytes(format)
    let layout = try InterleavedLayout.panels(
      rows: matrix.rows, columns: matrix.columns, fragment: instructionSet.weightFragment,
      elementBits: 4,
      groupSize: matrix.groupSize, blockTrailerBytes: head)
    let rowOffsets = layout.rowOffsets()
    let columnOffsets = layout.columnOffsets()
    let out = storage.base.assumingMemoryBound(to: UInt8.self)
    let blockBytes = qk_block_bytes(format, subgroups)
    let columns = matrix.columns
    let groups = matrix.groups
    matrix.codes.withUnsafeBufferPointer { codes in
      for row in 0..<matrix.rows {
        for column in 0..<columns {
          let bit = head * 8 + rowOffsets[row] + columnOffsets[column]
          out[bit >> 3] |= codes[row * columns + column] << UInt8(bit & 7)
        }
      }
    }
    for row in 0..<matrix.rows {
      let (panel, lane) = row.quotientAndRemainder(dividingBy: PackedWeights.panelRows)
      for group in 0..<groups {
        let at = storage.base + panel * panelStride + group * blockBytes
        let scale = matrix.scales[row * groups + group]
        if halves && format != QK_INT4_FM {
          at.storeBytes(of: HalfPrecision.half(scale), toByteOffset: 2 * lane, as: UInt16.self)
        } else {
          at.storeBytes(of: scale, toByteOffset: 4 * lane, as: Float.self)
        }
        switch matrix.offsets {
        case .symmetric: break
        case .zeroPoints(let zeros):
          at.storeBytes(
            of: zeros[row * groups + group], toByteOffset: (halves ? 32 : 64) + lane, as: UInt8.self
          )
        case .minimums(let minimums):
          let minimum = minimums[row * groups + group]
          if format == QK_INT4_HM {
            at.storeBytes(
              of: HalfPrecision.half(minimum), toByteOffset: 32 + 2 * lane, as: UInt16.self)
          } else {
            at.storeBytes(of: minimum, toByteOffset: 64 + 4 * lane, as: Float.self)
          }
        }
      }
    }
  }
}
