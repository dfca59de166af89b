import DeviceModel

/// A weight matrix of `rows` outputs × `columns` inputs stored in the order in which an instruction
/// wants it.
///
/// The one generator of the package's weight orders: given a fragment, the width of an element and
/// a storage order (which of the fragments' digits count nibbles, which words, which blocks), it
/// gives the bit at which the weight of output `row` and input `column` stands. QUICK, Marlin, AWQ,
/// GPTQ and every CPU panel are values of this type.
///
/// Outputs and inputs are padded to whole fragments and whole digits; the padding is part of
/// `byteCount`.
///
/// Source: the QUICK paper (arXiv 2402.10076) for `mma.m16n8k16`; the same idea for other
/// instructions is this package's.
public struct InterleavedLayout: TileLayout, Hashable {
  /// Outputs (N).
  public let rows: Int
  /// Inputs (K).
  public let columns: Int
  /// The operand that the order interleaves by.
  public let fragment: Fragment
  /// Width of a stored element: 4 or 8 for codes, 16 for scales.
  public let elementBits: Int
  /// The storage order, fastest first.
  public let order: [StorageStep]

  /// `rows` rounded up to what the order's digits cover.
  public let paddedRows: Int
  /// `columns` rounded up likewise.
  public let paddedColumns: Int
  /// Bytes of the packed matrix, with padding, copies and gaps.
  public let byteCount: Int
  /// Distances in bits between the copies of an element: `[0]` unless the order has
  /// ``StorageStep/copies(_:)``.
  public let copyOffsets: [Int]

  /// Outputs that one fragment covers: independent tiles of one instruction stand side by side
  /// along N.
  let tileRows: Int
  /// Inputs that one fragment covers.
  let tileColumns: Int
  /// Bit offset inside the order of each (output, input) of a fragment, `[tileRows · tileColumns]`.
  let fragmentBits: [Int]
  /// `Σ (tile / above % extent) · stride` gives a tile's bit offset.
  let outputDigits: [PlacedDigit]
  let inputDigits: [PlacedDigit]
  /// The order's gap: its first bit relative to its block, and the size of the block with its gap.
  let gap: Gap?

  struct PlacedDigit: Sendable, Hashable {
    let extent: Int
    let above: Int
    let stride: Int

    func callAsFunction(_ tile: UInt) -> Int {
      Int(bitPattern: tile / UInt(above) % UInt(extent)) &* stride
    }
  }

  struct Gap: Sendable, Hashable {
    let start: Int
    let bits: Int
    let blockBits: Int
  }

  /// - Throws: ``QuantError`` when a size is not positive or the layout's size overflows, the
  ///   fragment is an accumulator's, or the order's digits do not cover each index exactly once.
  public init(
    rows: Int, columns: Int, fragment: Fragment, elementBits: Int, order: [StorageStep]
  ) throws(QuantError) {
    let subject = "InterleavedLayout \(rows)×\(columns) by \(fragment.name)"
    func invalid(_ problem: String) -> QuantError {
      QuantError(.invalidArgument, subject, problem, remedy: "correct the layout's parameters")
    }
    guard rows > 0, columns > 0, elementBits > 0, elementBits <= 64 else {
      throw invalid("rows and columns must be positive and an element 1…64 bits")
    }
    switch fragment.operand {
    case .a:
      tileRows = fragment.tiles * fragment.rows
      tileColumns = fragment.columns
    case .b:
      tileRows = fragment.tiles * fragment.columns
      tileColumns = fragment.rows
    case .accumulator: throw invalid("weights are an operand A or B, not an accumulator")
    }
    guard let outputs = Self.coverage(order, .outputTile),
      let inputs = Self.coverage(order, .inputTile),
      Self.coverage(order, .lane) == fragment.lanes,
      Self.coverage(order, .element) == fragment.elementsPerLane
    else {
      throw invalid("the order's digits do not cover every lane, element and tile exactly once")
    }
    guard let paddedRows = Self.round(rows, to: tileRows, times: outputs),
      let paddedColumns = Self.round(columns, to: tileColumns, times: inputs)
    else { throw invalid("the padded size overflows") }

    // Lay the steps one around the other; `unit` is the size of everything so far.
    var unit = elementBits
    var copies = [0]
    var gap: Gap?
    var placed: [DigitIndex: [PlacedDigit]] = [:]
    func grow(by extent: Int) throws(QuantError) {
      let (product, overflow) = unit.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= Int.max / 2 else { throw invalid("the layout's size overflows") }
      unit = product
    }
    for step in order {
      switch step {
      case .copies(let count):
        guard count > 0, count <= 64 else { throw invalid("\(count) copies; 1…64 are possible") }
        let apart = unit
        copies = (0..<count).flatMap { copy in copies.map { $0 + copy * apart } }
        try grow(by: count)
      case .gap(let bits):
        guard gap == nil, bits >= 0, bits <= 1 << 40 else {
          throw invalid("one gap at most, of a size that is not negative")
        }
        gap = Gap(start: unit, bits: bits, blockBits: unit + bits)
        unit += bits
      default:
        guard
          let digit = Self.digit(
            step, outputTiles: paddedRows / tileRows, inputTiles: paddedColumns / tileColumns)
        else { continue }
        placed[digit.index, default: []].append(
          PlacedDigit(extent: digit.extent, above: digit.above, stride: unit))
        try grow(by: digit.extent)
      }
    }
    self.rows = rows
    self.columns = columns
    self.fragment = fragment
    self.elementBits = elementBits
    self.order = order
    self.paddedRows = paddedRows
    self.paddedColumns = paddedColumns
    byteCount = (unit + 7) / 8
    copyOffsets = copies
    outputDigits = placed[.outputTile] ?? []
    inputDigits = placed[.inputTile] ?? []
    self.gap = gap

    let lanes = placed[.lane] ?? []
    let elements = placed[.element] ?? []
    var fragmentBits = [Int](repeating: 0, count: tileRows * tileColumns)
    for lane in 0..<fragment.lanes {
      let laneBits = lanes.reduce(0) { $0 + $1(UInt(lane)) }
      for element in 0..<fragment.elementsPerLane {
        let at = fragment.coordinate(lane: lane, element: element)
        let place =
          fragment.operand == .a
          ? (at.tile * fragment.rows + at.row) * tileColumns + at.column
          : (at.tile * fragment.columns + at.column) * tileColumns + at.row
        fragmentBits[place] = laneBits + elements.reduce(0) { $0 + $1(UInt(element)) }
      }
    }
    self.fragmentBits = fragmentBits
  }

  /// The first bit of the weight of output `row` and input `column` (the first copy's).
  ///
  /// Defined for the padded extents. Complexity: O(digits).
  public func bitOffset(row: Int, column: Int) -> Int {
    let n = UInt(bitPattern: row)
    let k = UInt(bitPattern: column)
    let (outputs, inputs) = (UInt(tileRows), UInt(tileColumns))
    var bits = fragmentBits[Int(n % outputs * inputs + k % inputs)]
    for digit in outputDigits { bits &+= digit(n / outputs) }
    for digit in inputDigits { bits &+= digit(k / inputs) }
    return bits
  }

  // MARK: The order's digits

  enum DigitIndex: Hashable {
    case lane
    case element
    case outputTile
    case inputTile
  }

  /// A step's digit, or nil for steps that are none. Rests take what the tile counts leave.
  private static func digit(
    _ step: StorageStep, outputTiles: Int, inputTiles: Int
  ) -> (index: DigitIndex, extent: Int, above: Int)? {
    switch step {
    case .lane(let extent, let above): (.lane, extent, above)
    case .element(let extent, let above): (.element, extent, above)
    case .outputTile(let extent, let above): (.outputTile, extent, above)
    case .inputTile(let extent, let above): (.inputTile, extent, above)
    case .outputRest(let above): (.outputTile, outputTiles / above, above)
    case .inputRest(let above): (.inputTile, inputTiles / above, above)
    case .copies, .gap: nil
    }
  }

  /// How many values of `index` the order's digits below the rest cover, or nil when they leave
  /// gaps or overlap or, for tiles, when there is not exactly one rest on top.
  private static func coverage(_ order: [StorageStep], _ index: DigitIndex) -> Int? {
    var digits: [(extent: Int, above: Int)] = []
    var rests: [Int] = []
    for step in order {
      switch (step, index) {
      case (.lane(let extent, let above), .lane), (.element(let extent, let above), .element),
        (.outputTile(let extent, let above), .outputTile),
        (.inputTile(let extent, let above), .inputTile):
        digits.append((extent, above))
      case (.outputRest(let above), .outputTile), (.inputRest(let above), .inputTile):
        rests.append(above)
      default: continue
      }
    }
    var covered = 1
    for digit in digits.sorted(by: { $0.above < $1.above }) {
      guard digit.above == covered, digit.extent >= 2, digit.extent <= 1 << 20, covered <= 1 << 20
      else { return nil }
      covered *= digit.extent
    }
    switch index {
    case .lane, .element: return rests.isEmpty ? covered : nil
    case .outputTile, .inputTile: return rests == [covered] ? covered : nil
    }
  }

  private static func round(_ value: Int, to tile: Int, times count: Int) -> Int? {
    let (step, overflow1) = tile.multipliedReportingOverflow(by: count)
    let (sum, overflow2) = value.addingReportingOverflow(step - 1)
    return overflow1 || overflow2 ? nil : sum / step * step
  }
}
