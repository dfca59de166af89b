// The case names are the formats' own.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

/// The file formats of ternary weights that a ``TernaryMatrix`` is read from and written to, bit for
/// bit; K columns.
///
///     format      bits a weight   scale                   shape
///     i2s         2               float32, tensor         whole blocks of 128 or 64, or 4 | rows
///     tl1         2               float32, tensor         multiples of its blocking
///     tl2         5/3 and more    float32, tensor         multiples of its blocking
///     tq1_0       1.6875          binary16, 256 weights   256 | K
///     tq2_0       2.0625          binary16, 256 weights   256 | K
///     iq1BN       1.625 + 16/K    binary16, row           64 | K
///     iq2BN       2 + 32/K        float32, row            64 | K
///     iq2BNR4     2 + 32/K        float32, row            64 | K, 4 | rows
///     fiveTrits   1.6             float32, tensor         any
///
/// Reading checks everything first: sizes, scales, and that each byte is one that the format's own
/// quantizer writes. A scale of the tensor comes back as ``TernaryMatrix/Scales/tensor(_:)``, also
/// where the format repeats it for each row or block.
public enum TernaryFormat: Sendable, Hashable {
  /// microsoft/BitNet's I2_S. Nothing in a file says which order it is in; published files are made
  /// on x86.
  case i2s(I2SOrder)
  /// microsoft/BitNet's table-lookup format of pairs, for arm64.
  case tl1(TL1Blocking)
  /// microsoft/BitNet's table-lookup format of triples, for x86.
  case tl2(TL2Blocking)
  /// ggml's TQ1_0: five trits a byte.
  case tq1_0
  /// ggml's TQ2_0: four codes a byte.
  case tq2_0
  /// ik_llama.cpp's IQ1_BN: five trits a byte, but for a sixteenth weight.
  case iq1BN
  /// ik_llama.cpp's IQ2_BN: four codes a byte.
  case iq2BN
  /// IQ2_BN with four rows interleaved.
  case iq2BNR4
  /// Five trits a byte in plain base 3, rows padded to 160 columns.
  case fiveTrits

  /// The name that tools print.
  public var name: String { codec.name }

  /// Bytes of a tensor.
  ///
  /// - Throws: ``QuantError`` when the format does not take the shape, or it overflows.
  public func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    _ = try TernaryMatrix.elementCount(
      rows: rows, columns: columns, "\(name) tensor \(rows)×\(columns)")
    return try codec.byteCount(rows: rows, columns: columns)
  }

  /// Checks a tensor's size and every byte of its codes without unpacking it.
  ///
  /// What only unpacking can find (TL2's signs of zeros, scales) is left to
  /// ``TernaryMatrix/init(_:bytes:rows:columns:)-(_,UnsafeRawBufferPointer,_,_)``.
  ///
  /// - Throws: ``QuantError`` for a shape that the format does not take, another size, or a byte
  ///   that is no code of the format's.
  /// - Complexity: O(`bytes.count`), at the speed of memory.
  public func check(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int
  ) throws(QuantError) {
    let wanted = try byteCount(rows: rows, columns: columns)
    guard bytes.count == wanted else {
      throw QuantError(
        .invalidData, "\(name) tensor \(rows)×\(columns)",
        "\(bytes.count) bytes where \(wanted) belong",
        remedy: "the file is cut off, or the tensor is in another format")
    }
    try codec.check(bytes, rows: rows, columns: columns)
  }

  var codec: any TernaryCodec {
    switch self {
    case .i2s(let order): I2SCodec(order: order)
    case .tl1(let blocking): TL1Codec(blocking: blocking)
    case .tl2(let blocking): TL2Codec(blocking: blocking)
    case .tq1_0: TQCodec(block: .one)
    case .tq2_0: TQCodec(block: .two)
    case .iq1BN: IQ1BNCodec()
    case .iq2BN: IQ2BNCodec()
    case .iq2BNR4: IQ2BNR4Codec()
    case .fiveTrits: FiveTritCodec()
    }
  }
}

/// One format's reader and writer. Shapes have passed ``TernaryMatrix/elementCount``, and byte counts
/// are `byteCount`'s, before the others are called.
protocol TernaryCodec: Sendable {
  var name: String { get }
  /// Whether scales are binary16.
  var hasHalfScales: Bool { get }

  /// - Throws: for a shape that the format does not take.
  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int

  /// - Throws: for a byte that is no code of the format's.
  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError)

  /// Reads checked bytes into `[rows · columns]` codes.
  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales

  /// Writes into zeroed bytes. Scales fit the format.
  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError)
}

extension TernaryCodec {
  var hasHalfScales: Bool { false }

  func shapeError(_ rows: Int, _ columns: Int, _ problem: String) -> QuantError {
    QuantError(
      .unsupported, "\(name) tensor \(rows)×\(columns)", problem,
      remedy: "use a format that takes any shape, such as fiveTrits")
  }

  func damage(_ rows: Int, _ columns: Int, _ problem: String) -> QuantError {
    QuantError(
      .invalidData, "\(name) tensor \(rows)×\(columns)", problem,
      remedy: "the file is damaged or in another format; get it again")
  }

  /// The damage at the first byte of `bytes` that `isBad`, whose place counts from `start`.
  func damage(
    _ rows: Int, _ columns: Int, in bytes: UnsafeRawBufferPointer, from start: Int = 0,
    _ what: String, where isBad: (UInt8) -> Bool
  ) -> QuantError {
    let found = ByteScan.first(in: bytes, where: isBad)
    return damage(
      rows, columns,
      "byte \(start + (found?.index ?? 0)) is \(found?.byte ?? 0), which \(what)")
  }

  /// A float32 scale at a byte offset.
  func scale(
    _ bytes: UnsafeRawBufferPointer, at offset: Int, _ rows: Int, _ columns: Int
  ) throws(QuantError) -> Float {
    let scale = Float(
      bitPattern: UInt32(
        littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    guard scale.isFinite else {
      throw damage(rows, columns, "scale \(scale) at byte \(offset)")
    }
    return scale
  }

  func store(_ scale: Float, at offset: Int, in bytes: UnsafeMutableRawBufferPointer) {
    bytes.storeBytes(of: scale.bitPattern.littleEndian, toByteOffset: offset, as: UInt32.self)
  }

  /// The scale of a tensor in a format that has one.
  func commonScale(_ matrix: TernaryMatrix) throws(QuantError) -> Float {
    guard let scale = matrix.commonScale else {
      throw QuantError(
        .unsupported, "\(name) tensor \(matrix.rows)×\(matrix.columns)",
        "has one scale, and the rows of the matrix have different ones",
        remedy: "use a format with a scale a row, such as IQ2_BN")
    }
    return scale
  }

  /// The scales of rows, as one where they are one.
  func merged(_ scales: [Float]) -> TernaryMatrix.Scales {
    guard let first = scales.first,
      scales.allSatisfy({ $0.bitPattern == first.bitPattern })
    else { return .rows(scales) }
    return .tensor(first)
  }
}
