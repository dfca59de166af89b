import DeviceModel

/// Orders of 4-bit weights on GPUs, as their files store them (little-endian 32-bit words).
extension InterleavedLayout {
  /// What to do with outputs that do not fill QUICK's 128-column blocks or inputs that do not fill
  /// its 32.
  public enum Padding: Sendable, Equatable {
    /// Refuse what QUICK's own packer cannot make: only N = 128 or multiples of 256, K multiples of
    /// 32.
    case published
    /// Any multiple of 128 outputs and 32 inputs, unpadded: the closed form holds for 384 and 640
    /// too, and the published kernels' addresses with it, though the published packer fails there.
    case extended
    /// Anything; outputs are padded to 128 and inputs to 32.
    case padded
  }

  /// QUICK's weight order: one word holds a lane's values of a 16(K) × 16(N) patch for
  /// `mma.m16n8k16`.
  ///
  /// With g, t the lane's group and place in its quad, e and h the fragment's element bits (k = 2t
  /// + e + 8h), j the n-tile in a warp of 64 columns:
  ///
  ///     nibble  h + 2·(j mod 2) + 4·e
  ///     word    kb·4N + w·2N + (g div 4)·N + bx·128 + (lane mod 16)·8 + s·4 + j div 2
  ///
  /// Stored as int32 `[K/4, N/2]`. Source: SqueezeBits/QUICK, `quick/awq/modules/linear/quick.py`.
  ///
  /// - Throws: ``QuantError`` when the shape does not suit `padding`.
  public static func quick(
    rows: Int, columns: Int, padding: Padding = .published
  ) throws(QuantError) -> InterleavedLayout {
    try requireQUICK(rows: rows, columns: columns, padding: padding)
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .mmaM16N8K16B, elementBits: 4,
      order: [
        .element(2, above: 2), .outputTile(2), .element(2),  // the word
        .outputTile(4, above: 2), .inputTile(2),  // a lane's eight words
        .lane(16), .outputRest(above: 16), .lane(2, above: 16), .outputTile(2, above: 8),
        .inputRest(above: 2),
      ])
  }

  /// QUICK's scales: half floats `[K/G, 2N]`, each standing twice so that it loads as a pair of
  /// equal halves. Rows are outputs and columns groups.
  ///
  /// - Throws: ``QuantError`` for rows that the padding does not take, and no groups.
  public static func quickScales(
    rows: Int, groups: Int, padding: Padding = .published
  ) throws(QuantError) -> InterleavedLayout {
    try requireQUICK(rows: rows, columns: 32, padding: padding)
    return try InterleavedLayout(
      rows: rows, columns: groups, fragment: .scalar, elementBits: 16,
      order: [
        .copies(2), .outputTile(8, above: 8),  // the record of a quad: eight n-tiles, twice each
        .outputTile(4), .outputRest(above: 128), .outputTile(2, above: 4),
        .outputTile(2, above: 64),
        .inputRest(above: 1),
      ])
  }

  /// QUICK's zero points: int32 `[K/G, N/4]`; a word holds four n-tiles in nibbles 0…3 and again in
  /// 4…7.
  ///
  /// - Throws: ``QuantError`` for rows that the padding does not take, and no groups.
  public static func quickZeroPoints(
    rows: Int, groups: Int, padding: Padding = .published
  ) throws(QuantError) -> InterleavedLayout {
    try requireQUICK(rows: rows, columns: 32, padding: padding)
    return try InterleavedLayout(
      rows: rows, columns: groups, fragment: .scalar, elementBits: 4,
      order: [
        .outputTile(4, above: 8), .copies(2), .outputTile(2, above: 32),
        .outputTile(4), .outputRest(above: 128), .outputTile(2, above: 4),
        .outputTile(2, above: 64),
        .inputRest(above: 1),
      ])
  }

  private static func requireQUICK(rows: Int, columns: Int, padding: Padding) throws(QuantError) {
    let allowed: Bool
    let wanted: String
    switch padding {
    case .published:
      allowed = (rows == 128 || rows % 256 == 0) && columns % 32 == 0
      wanted = "QUICK needs 128 or a multiple of 256 outputs and a multiple of 32 inputs"
    case .extended:
      allowed = rows % 128 == 0 && columns % 32 == 0
      wanted = "the extended order needs multiples of 128 outputs and 32 inputs"
    case .padded:
      allowed = true
      wanted = ""
    }
    guard allowed, rows > 0, columns > 0 else {
      throw QuantError(
        .invalidArgument, "QUICK layout", "\(rows) outputs × \(columns) inputs; \(wanted)",
        remedy: "pad the layer, or use Padding.padded")
    }
  }

  /// Marlin's weight order: QUICK's words with a warp's 32 lanes side by side, int32 `[K/16, 2N]`:
  ///
  ///     word    (k div 16)·2N + (n div 64)·128 + lane·4 + (n mod 64) div 16
  ///
  /// Source: IST-DASLab/marlin.
  ///
  /// - Throws: ``QuantError`` unless N is a multiple of 64 and K of 16, or `padded`. (Marlin's
  ///   kernels ask more of a layer: N a multiple of 256 and K of 128.)
  public static func marlin(
    rows: Int, columns: Int, padded: Bool = false
  ) throws(QuantError) -> InterleavedLayout {
    guard padded || (rows % 64 == 0 && columns % 16 == 0) else {
      throw QuantError(
        .invalidArgument, "Marlin layout",
        "\(rows) outputs × \(columns) inputs; Marlin needs multiples of 64 and 16",
        remedy: "pad the layer, or ask for a padded layout")
    }
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .mmaM16N8K16B, elementBits: 4,
      order: [
        .element(2, above: 2), .outputTile(2), .element(2),
        .outputTile(4, above: 2), .lane(32), .outputRest(above: 8), .inputRest(above: 1),
      ])
  }

  /// Marlin's scales: half floats `[K/G, N]`, permuted so that a thread's columns are neighbors:
  /// within 64 columns by n mod 8, then n div 8; with one group for all of K within 32 columns as
  /// the accumulators lie.
  ///
  /// - Throws: ``QuantError`` unless N is a multiple of 64.
  public static func marlinScales(rows: Int, groups: Int) throws(QuantError) -> InterleavedLayout {
    guard rows > 0, rows % 64 == 0 else {
      throw QuantError(
        .invalidArgument, "Marlin scales", "\(rows) outputs; Marlin needs a multiple of 64",
        remedy: "pad the layer")
    }
    let order: [StorageStep] =
      groups == 1
      ? [
        .outputTile(2), .outputTile(4, above: 8), .outputTile(4, above: 2), .outputRest(above: 32),
      ]
      : [.outputTile(8, above: 8), .outputTile(8), .outputRest(above: 64)]
    return try InterleavedLayout(
      rows: rows, columns: groups, fragment: .scalar, elementBits: 16,
      order: order + [.inputRest(above: 1)])
  }

  /// Output after output for one input, then the next: `[K, N]` row-major, the order of plain
  /// scales `[K/G, N]`.
  ///
  /// - Throws: ``QuantError`` when a size is not positive or overflows.
  public static func columnMajor(
    rows: Int, columns: Int, elementBits: Int
  ) throws(QuantError) -> InterleavedLayout {
    try InterleavedLayout(
      rows: rows, columns: columns, fragment: .scalar, elementBits: elementBits,
      order: [.outputRest(above: 1), .inputRest(above: 1)])
  }

  /// AWQ's order, int32 `[K, N/8]`: word c of row k holds columns 8c + 0,2,4,6,1,3,5,7 in nibbles
  /// 0…7, so that two masks and a shift by 8 peel off pairs of neighbors. Zero points use it too,
  /// with groups for inputs.
  ///
  /// - Throws: ``QuantError`` unless N is a multiple of 8.
  public static func awq(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    try requireWords(rows, "AWQ", "outputs")
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .scalar, elementBits: 4,
      order: [
        .outputTile(4, above: 2), .outputTile(2), .outputRest(above: 8), .inputRest(above: 1),
      ])
  }

  /// GPTQ's order, int32 `[K/8, N]`: word (r, n) holds inputs 8r…8r+7 of output n in nibbles 0…7.
  ///
  /// - Throws: ``QuantError`` unless K is a multiple of 8.
  public static func gptq(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    try requireWords(columns, "GPTQ", "inputs")
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .scalar, elementBits: 4,
      order: [.inputTile(8), .outputRest(above: 1), .inputRest(above: 8)])
  }

  /// GPTQ's zero points, int32 `[K/G, N/8]`: word c of a group holds outputs 8c…8c+7 in nibbles
  /// 0…7. Columns are groups.
  ///
  /// - Throws: ``QuantError`` unless N is a multiple of 8.
  public static func gptqZeroPoints(rows: Int, groups: Int) throws(QuantError) -> InterleavedLayout
  {
    try requireWords(rows, "GPTQ zero point", "outputs")
    return try InterleavedLayout(
      rows: rows, columns: groups, fragment: .scalar, elementBits: 4,
      order: [.outputTile(8), .outputRest(above: 8), .inputRest(above: 1)])
  }

  private static func requireWords(_ count: Int, _ name: String, _ axis: String) throws(QuantError)
  {
    guard count > 0, count % 8 == 0 else {
      throw QuantError(
        .invalidArgument, "\(name) layout", "\(count) \(axis); a word holds eight",
        remedy: "pad the \(axis) to a multiple of 8")
    }
  }
}
