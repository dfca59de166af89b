import CDeviceModel

/// Copies, each on the pipe of its path.
extension NPUCore {
  /// Binary16 rows of global memory into L1, as fractals from the tile's start.
  ///
  /// - Throws: ``DeviceError`` when the window passes its array, the tile is too small or elsewhere.
  public func loadFractals(
    _ global: NPUGlobal, _ window: GlobalWindow, into tile: NPUTile, slot: NPUTile? = nil
  ) throws(DeviceError) {
    try require(tile, in: .l1)
    try check(window, of: global, elementBytes: 2)
    let rows = window.allRows
    try require(
      tile, bytes: FractalLayout.bytes(rows: rows, columns: window.columns, elementBytes: 2))
    try copy(
      .globalToL1, .load, unit: 0, bytes: rows * window.columns * 2, global, write: tile, read: slot
    )
    guard let target = unsafe contents(tile), let source = unsafe global.bytes else { return }
    let halves = unsafe UnsafeRawPointer(source).assumingMemoryBound(to: UInt16.self)
    for group in 0..<window.groups {
      unsafe cdm_npu_pack(
        target.assumingMemoryBound(to: UInt16.self), FractalLayout.padded(rows),
        group * window.rows, halves + window.start(group * window.rows), window.rowPitch,
        window.rows, window.columns)
    }
  }

  /// Rows of global memory into a unified buffer, row by row at the matrix's pitch.
  ///
  /// - Throws: ``DeviceError`` for a window or a matrix outside its memory, and a path that the
  ///   device has not.
  public func loadRows(
    _ global: NPUGlobal, _ window: GlobalWindow, into matrix: UBMatrix, slot: NPUTile? = nil
  ) throws(DeviceError) {
    try check(window, of: global, elementBytes: matrix.elementBytes)
    try matrix.check(self, rows: window.allRows, columns: window.columns)
    let rowBytes = window.columns * matrix.elementBytes
    try copy(
      .globalToUB, .load, unit: matrix.tile.unit, bytes: window.allRows * rowBytes, global,
      write: matrix.tile, read: slot)
    guard let target = unsafe contents(matrix.tile, byte: matrix.byte),
      let source = unsafe global.bytes
    else { return }
    for row in 0..<window.allRows {
      unsafe target.advanced(by: row * matrix.pitch * matrix.elementBytes).copyMemory(
        from: source + window.start(row) * matrix.elementBytes, byteCount: rowBytes)
    }
  }

  /// Rows of a unified buffer to global memory.
  ///
  /// - Throws: ``DeviceError`` for a window or a matrix outside its memory, and a path that the
  ///   device has not.
  public func storeRows(
    _ matrix: UBMatrix, to global: NPUGlobal, _ window: GlobalWindow, slot: NPUTile? = nil
  ) throws(DeviceError) {
    try check(window, of: global, elementBytes: matrix.elementBytes)
    try matrix.check(self, rows: window.allRows, columns: window.columns)
    let rowBytes = window.columns * matrix.elementBytes
    try copy(
      .ubToGlobal, .store, unit: matrix.tile.unit, bytes: window.allRows * rowBytes, global,
      write: slot, read: matrix.tile)
    guard let source = unsafe contents(matrix.tile, byte: matrix.byte),
      let target = unsafe global.bytes
    else { return }
    for row in 0..<window.allRows {
      unsafe UnsafeMutableRawPointer(target + window.start(row) * matrix.elementBytes).copyMemory(
        from: source.advanced(by: row * matrix.pitch * matrix.elementBytes), byteCount: rowBytes)
    }
  }

  /// A part of an L1 matrix of `matrixRows` rows into L0A or L0B.
  ///
  /// - Parameters:
  ///   - transposed: the operand's rows are the part's columns.
  ///   - tile: the L1 matrix.
  ///   - matrixRows: the matrix's rows.
  ///   - row: the first row of the part.
  ///   - column: the first column of the part.
  ///   - rows: the part's rows.
  ///   - columns: the part's columns.
  ///   - operand: the buffer in L0A or L0B.
  /// - Throws: ``DeviceError`` for a part outside the matrix, and another kind of buffer.
  public func loadOperand(
    _ tile: NPUTile, matrixRows: Int, row: Int = 0, column: Int = 0, rows: Int, columns: Int,
    transposed: Bool = false, into operand: NPUTile
  ) throws(DeviceError) {
    try require(tile, in: .l1)
    guard operand.memory == .l0a || operand.memory == .l0b else {
      throw DeviceError(
        .invalidArgument, "\(operand.memory.rawValue) tile \(operand.name)",
        "is no operand of the cube", remedy: "use L0A or L0B")
    }
    guard row >= 0, column >= 0, rows > 0, columns > 0, row % 16 == 0, column % 16 == 0,
      row + rows <= matrixRows
    else {
      throw DeviceError(
        .invalidArgument, "part of \(tile.name)",
        "rows \(row)+\(rows), columns \(column)+\(columns)",
        remedy: "start at whole fractals, inside the matrix")
    }
    try require(
      tile,
      bytes: FractalLayout.bytes(rows: matrixRows, columns: column + columns, elementBytes: 2))
    let bytes = FractalLayout.bytes(rows: rows, columns: columns, elementBytes: 2)
    try require(operand, bytes: bytes)
    try copy(
      operand.memory == .l0a ? .l1ToL0A : .l1ToL0B, .operand, unit: 0, bytes: bytes, nil,
      write: operand, read: tile)
    guard let source = unsafe contents(tile), let target = unsafe contents(operand) else { return }
    unsafe cdm_npu_move(
      target.assumingMemoryBound(to: UInt16.self),
      FractalLayout.padded(transposed ? columns : rows),
      source.assumingMemoryBound(to: UInt16.self), FractalLayout.padded(matrixRows), row, column,
      rows, columns, transposed ? 1 : 0)
  }

  /// C (m × n) = or += A (m × k) · B (n × k)ᵀ; costs ceil(m/16) · ceil(n/16) · ceil(k/16) cycles.
  ///
  /// - Throws: ``DeviceError`` for sizes that are none, and operands or sums outside their buffers.
  public func multiply(
    _ a: NPUTile, _ b: NPUTile, into c: NPUTile, m: Int, n: Int, k: Int, accumulating: Bool
  ) throws(DeviceError) {
    try require(a, in: .l0a)
    try require(b, in: .l0b)
    try require(c, in: .l0c)
    guard m > 0, n > 0, k > 0 else {
      throw DeviceError(
        .invalidArgument, "cube product", "\(m) × \(n) × \(k)", remedy: "use positive sizes")
    }
    try require(a, bytes: FractalLayout.bytes(rows: m, columns: k, elementBytes: 2))
    try require(b, bytes: FractalLayout.bytes(rows: n, columns: k, elementBytes: 2))
    try require(c, bytes: FractalLayout.bytes(rows: m, columns: n, elementBytes: 4))
    let cycles = cubeCycles(m: m, n: n, k: k)
    try record(
      NPUOperation(
        kind: .product, unit: 0, pipe: UInt8(NPUPipe.cube.rawValue), amount: Int32(cycles),
        write: c.number, read0: a.number, read1: b.number))
    count {
      $0.products += 1
      $0.cubeCycles += cycles
    }
    guard let left = unsafe contents(a), let right = unsafe contents(b),
      let sums = unsafe contents(c)
    else { return }
    unsafe cdm_npu_mmad(
      left.assumingMemoryBound(to: UInt16.self), FractalLayout.padded(m),
      right.assumingMemoryBound(to: UInt16.self), FractalLayout.padded(n),
      sums.assumingMemoryBound(to: Float.self), FractalLayout.padded(m), m, n, k,
      accumulating ? 1 : 0, workArea((m + n) * k))
  }

  /// All rows of an L0C matrix to global memory, as float32 or rounded to binary16; split parts.
  ///
  /// - Throws: ``DeviceError`` for a window or a matrix outside its memory, and a path that the
  ///   device has not.
  public func storeSums(
    _ tile: NPUTile, to global: NPUGlobal, _ window: GlobalWindow, slot: NPUTile? = nil
  ) throws(DeviceError) {
    guard spec.coupling == .split else { throw noPath(.l0cToGlobal) }
    try require(tile, in: .l0c)
    try check(window, of: global, elementBytes: global.elementBytes)
    let rows = window.allRows
    try require(
      tile, bytes: FractalLayout.bytes(rows: rows, columns: window.columns, elementBytes: 4))
    let bytes = rows * window.columns * global.elementBytes
    try copy(.l0cToGlobal, .fix, unit: 0, bytes: bytes, global, write: slot, read: tile)
    guard let source = unsafe contents(tile), let target = unsafe global.bytes else { return }
    for group in 0..<window.groups {
      let row = group * window.rows
      unsafe cdm_npu_unpack(
        UnsafeMutableRawPointer(target + window.start(row) * global.elementBytes), window.rowPitch,
        global.elementBytes == 2 ? 1 : 0, source.assumingMemoryBound(to: Float.self),
        FractalLayout.padded(rows), row, 0, window.rows, window.columns)
    }
  }

  /// Rows of an L0C matrix of `matrixRows` rows to a unified buffer as float32; coupled parts.
  ///
  /// - Throws: ``DeviceError`` for a window or a matrix outside its memory, and a path that the
  ///   device has not.
  public func sumsToVector(
    _ tile: NPUTile, matrixRows: Int, row: Int, rows: Int, columns: Int, into matrix: UBMatrix
  ) throws(DeviceError) {
    guard spec.coupling == .coupled else { throw noPath(.l0cToUB) }
    try require(tile, in: .l0c)
    try matrix.check(self, rows: rows, columns: columns)
    try require(
      tile, bytes: FractalLayout.bytes(rows: matrixRows, columns: columns, elementBytes: 4))
    try copy(
      .l0cToUB, .fix, unit: 0, bytes: rows * columns * 4, nil, write: matrix.tile, read: tile)
    guard let source = unsafe contents(tile),
      let target = unsafe contents(matrix.tile, byte: matrix.byte)
    else { return }
    unsafe cdm_npu_unpack(
      target, matrix.pitch, 0, source.assumingMemoryBound(to: Float.self),
      FractalLayout.padded(matrixRows), row, 0, rows, columns)
  }

  /// Binary16 rows of a unified buffer into an L1 matrix of `matrixRows` rows, as fractals from
  /// `row` on; coupled parts.
  ///
  /// - Throws: ``DeviceError`` for a window or a matrix outside its memory, and a path that the
  ///   device has not.
  public func rowsToOperands(
    _ matrix: UBMatrix, into tile: NPUTile, matrixRows: Int, row: Int
  ) throws(DeviceError) {
    guard spec.coupling == .coupled else { throw noPath(.ubToL1) }
    try require(tile, in: .l1)
    try matrix.check(self, rows: matrix.rows, columns: matrix.columns)
    try require(
      tile, bytes: FractalLayout.bytes(rows: matrixRows, columns: matrix.columns, elementBytes: 2))
    try copy(
      .ubToL1, .store, unit: 0, bytes: matrix.rows * matrix.columns * 2, nil, write: tile,
      read: matrix.tile)
    guard let source = unsafe contents(matrix.tile, byte: matrix.byte),
      let target = unsafe contents(tile)
    else { return }
    unsafe cdm_npu_pack(
      target.assumingMemoryBound(to: UInt16.self), FractalLayout.padded(matrixRows), row,
      source.assumingMemoryBound(to: UInt16.self), matrix.pitch, matrix.rows, matrix.columns)
  }

  /// Cycles of a binary16 product: a fractal step a cycle at 4096 multiply-adds.
  func cubeCycles(m: Int, n: Int, k: Int) -> Int {
    (m + 15) / 16 * ((n + 15) / 16) * ((k + 15) / 16)
  }

  private func noPath(_ path: NPUPath) -> DeviceError {
    DeviceError(
      .launch, "path \(path.name)", "\(spec.name) (\(spec.coupling.rawValue)) does not have it",
      remedy: spec.coupling == .split
        ? "exchange through global memory" : "use the core's own paths")
  }

  private func check(
    _ window: GlobalWindow, of global: NPUGlobal, elementBytes: Int
  ) throws(DeviceError) {
    var ok =
      window.offset >= 0 && window.groups > 0 && window.rows > 0 && window.columns > 0
      && window.groupPitch >= 0 && window.rowPitch >= 0 && global.elementBytes == elementBytes
      && window.columns < 1 << 30 && window.groups < 1 << 24 && window.rows < 1 << 24
    if ok {
      let (groups, first) = (window.groups - 1).multipliedReportingOverflow(by: window.groupPitch)
      let (rows, second) = (window.rows - 1).multipliedReportingOverflow(by: window.rowPitch)
      let (part, third) = groups.addingReportingOverflow(rows)
      let (start, fourth) = part.addingReportingOverflow(window.offset)
      let (end, fifth) = start.addingReportingOverflow(window.columns)
      ok = !first && !second && !third && !fourth && !fifth && end <= global.count
      ok = ok && window.groups * window.rows * window.columns * elementBytes <= Int(Int32.max)
    }
    guard ok else {
      throw DeviceError(
        .outOfRange, "global array \(global.region.name)",
        "a window of \(window.groups) × \(window.rows) × \(window.columns) from \(window.offset) on "
          + "in \(global.count) elements of \(global.elementBytes) bytes",
        remedy: "stay inside the array, with its element size", limit: global.count)
    }
  }

  private func copy(
    _ path: NPUPath, _ pipe: NPUPipe, unit: Int, bytes: Int, _ global: NPUGlobal?, write: NPUTile?,
    read: NPUTile?
  ) throws(DeviceError) {
    try record(
      NPUOperation(
        kind: .copy, unit: UInt8(unit), pipe: UInt8(pipe.rawValue), path: UInt8(path.rawValue),
        amount: Int32(bytes), region: global.map { regionNumber($0) } ?? -1,
        write: write?.number ?? -1, read0: read?.number ?? -1))
    count { $0.move(bytes, path, region: global?.region.name) }
  }
}
