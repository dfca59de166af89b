import QuantKernels
import Synchronization

/// Requantizes a matrix a few rows at a time, spread over a pool, in order.
struct RowConversion {
  let name: String
  let source: GGMLType
  let target: GGMLType
  let columns: Int
  let rows: Int
  let pool: WorkerPool

  /// Elements of one part: half a megabyte of floats, which stays in a level-2 cache.
  private static let partElements = 1 << 17

  /// - Throws: `QuantError` for bytes that are not these rows, a value that is NaN or infinite,
  ///   `.cancelled`, and what the sink throws.
  func write(
    _ bytes: UnsafeRawBufferPointer, to sink: any ByteSink, _ work: ModelConverter.Work
  ) throws(QuantError) {
    guard let rowBytes = source.rowBytes(columns: columns),
      rowBytes * rows + source.tailBytes == bytes.count
    else {
      throw QuantError(
        .invalidData, "tensor \(name)", "\(bytes.count) bytes are not \(rows) rows of \(columns)",
        remedy: "fetch the file again")
    }
    let partRows = max(1, RowConversion.partElements / max(columns, 1))
    let parts = (rows + partRows - 1) / partRows
    let group = pool.threads * 4
    nonisolated(unsafe) let bytes = bytes
    let tail = Array(bytes.suffix(source.tailBytes))
    var first = 0
    while first < parts {
      try work.check()
      let count = min(group, parts - first)
      let results = Mutex<[Result<[UInt8], QuantError>?]>(Array(repeating: nil, count: count))
      pool.run(parts: count) { [first] part, _ in
        let start = (first + part) * partRows
        let end = min(start + partRows, rows)
        let slice = UnsafeRawBufferPointer(rebasing: bytes[start * rowBytes..<end * rowBytes])
        let result = Result { () throws(QuantError) in
          try tail.isEmpty
            ? convert(slice, rows: end - start)
            : joined(slice, tail) { part throws(QuantError) in
              try convert(part, rows: end - start)
            }
        }
        results.withLock { $0[part] = result }
      }
      for result in results.withLock({ $0 }) {
        if let result { try sink.write(try result.get()) }
      }
      first += count
    }
  }

  /// Calls `body` with some blocks and the tensor's tail behind them.
  private func joined(
    _ blocks: UnsafeRawBufferPointer, _ tail: [UInt8],
    _ body: (UnsafeRawBufferPointer) throws(QuantError) -> [UInt8]
  ) throws(QuantError) -> [UInt8] {
    let bytes = UnsafeMutableRawBufferPointer.allocate(
      byteCount: blocks.count + tail.count, alignment: 64)
    defer { bytes.deallocate() }
    bytes.copyMemory(from: blocks)
    for (index, byte) in tail.enumerated() { bytes[blocks.count + index] = byte }
    return try body(UnsafeRawBufferPointer(bytes))
  }

  private func convert(_ bytes: UnsafeRawBufferPointer, rows: Int) throws(QuantError) -> [UInt8] {
    let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: rows * columns)
    defer { values.deallocate() }
    do throws(QuantError) {
      try GGMLBlocks.dequantize(source, bytes, into: values)
      return try GGMLBlocks.quantize(target, UnsafeBufferPointer(values))
    } catch {
      throw QuantError(
        error.code, "tensor \(name), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }
}
