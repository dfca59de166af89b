extension TernaryMatrix {
  /// Reads a tensor in one of the file formats; nothing is requantized.
  ///
  /// - Parameters:
  ///   - format: the format, with the order or blocking that the file does not name.
  ///   - bytes: exactly the tensor's, at any alignment.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` for a shape that the format does not take; with `.invalidData` for
  ///   another size, a byte that is no code of the format's, or a scale that is not finite; with
  ///   `.unsupported` when the blocks of a row have different scales (TQ1_0 and TQ2_0 of a model
  ///   that is not ternary).
  /// - Complexity: O(rows · columns).
  public init(
    _ format: TernaryFormat, bytes: UnsafeRawBufferPointer, rows: Int, columns: Int
  ) throws(QuantError) {
    try format.check(bytes, rows: rows, columns: columns)
    var codes = [UInt8](repeating: 0, count: rows * columns)
    var read: Result<Scales, QuantError> = .success(.tensor(0))
    codes.withUnsafeMutableBufferPointer { codes in
      read = Result { () throws(QuantError) in
        try format.codec.unpack(bytes, rows: rows, columns: columns, into: codes)
      }
    }
    try self.init(rows: rows, columns: columns, codes: codes, scales: read.get())
  }

  /// Reads an array; see ``init(_:bytes:rows:columns:)-(_,UnsafeRawBufferPointer,_,_)``.
  public init(
    _ format: TernaryFormat, bytes: [UInt8], rows: Int, columns: Int
  ) throws(QuantError) {
    var read: Result<TernaryMatrix, QuantError>?
    bytes.withUnsafeBytes { bytes in
      read = Result { () throws(QuantError) in
        try TernaryMatrix(format, bytes: bytes, rows: rows, columns: columns)
      }
    }
    guard let read else {
      throw QuantError(.invalidData, format.name, "nothing was read", remedy: "report it")
    }
    self = try read.get()
  }

  /// The tensor in one of the file formats.
  ///
  /// What ``init(_:bytes:rows:columns:)-(_,UnsafeRawBufferPointer,_,_)`` read comes back byte for
  /// byte, but for bytes that a format leaves unused and for scales of blocks of zeros, which are
  /// written as the format's own quantizer does.
  ///
  /// - Parameters:
  ///   - format: the format.
  ///   - roundingScales: whether TQ1_0, TQ2_0 and IQ1_BN may round scales to binary16; otherwise
  ///     they refuse those that it does not hold.
  /// - Throws: ``QuantError`` with `.unsupported` for a shape or for scales that the format cannot
  ///   hold (also, rounding or not, those beyond binary16 or rounded to 0).
  /// - Complexity: O(rows · columns).
  public func packed(
    as format: TernaryFormat, roundingScales: Bool = false
  ) throws(QuantError) -> [UInt8] {
    let codec = format.codec
    let count = try format.byteCount(rows: rows, columns: columns)
    if codec.hasHalfScales { try requireHalfScales(format, rounding: roundingScales) }
    var bytes = [UInt8](repeating: 0, count: count)
    var failure: QuantError?
    bytes.withUnsafeMutableBytes { bytes in
      codes.withUnsafeBufferPointer { codes in
        do throws(QuantError) {
          try codec.pack(self, codes: codes, into: bytes)
        } catch {
          failure = error
        }
      }
    }
    if let failure { throw failure }
    return bytes
  }

  private func requireHalfScales(
    _ format: TernaryFormat, rounding: Bool
  ) throws(QuantError) {
    let distinct =
      switch scales {
      case .tensor(let scale): [scale]
      case .rows(let scales): scales
      }
    for scale in distinct {
      let half = HalfPrecision.half(scale)
      let back = HalfPrecision.float(fromHalf: half)
      guard back == scale || (rounding && back.isFinite && back != 0) else {
        throw QuantError(
          .unsupported, "\(format.name) tensor \(rows)×\(columns)",
          "scale \(scale) is no binary16",
          remedy: back.isFinite && back != 0
            ? "allow rounding scales, or use a format with float32 scales"
            : "use a format with float32 scales")
      }
    }
  }
}
