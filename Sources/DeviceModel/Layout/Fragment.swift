/// The fragment of an instruction's operand: which matrix element each lane holds in each of its
/// elements.
///
/// The map `(lane, element) → (tile, row, column)` is written as digits. A lane's number and an
/// element's number are each cut into digits, least significant first, and each digit moves the
/// coordinate by its stride along one axis:
///
///     lane    = d₀ + e₀·(d₁ + e₁·(d₂ + …))        eᵢ the extents of `laneDigits`
///     element = the same with `elementDigits`
///     row     = Σ digit · stride over the digits whose axis is `.row`; column and tile likewise
///
/// Along each axis the strides are the running products of the extents, so the map is a bijection
/// by construction. Every instruction of the package is one row of one table, `Fragment.all`, be it
/// a GPU's tensor core, an NPU's cube or a CPU's dot product.
///
/// What rows and columns mean follows from the operand: A is M × K, B is K × N, the accumulator is
/// M × N. A CPU dot-product instruction is described from its weight operand, B: a lane is an
/// output column, an element a k.
public struct Fragment: Sendable, Hashable {
  /// Which operand of `C = A·B` the fragment describes.
  public enum Operand: String, Sendable, Hashable {
    /// M × K: rows are outputs of the left side, columns are k.
    case a
    /// K × N: rows are k, columns are outputs.
    case b
    /// M × N.
    case accumulator
  }

  /// The axis that a digit moves along.
  public enum Axis: Sendable, Hashable {
    /// One of several independent tiles: an 8×8 matrix of `ldmatrix.x4`, a quad-pair of Volta's
    /// `mma.m8n8k4`.
    case tile
    /// Rows of the operand.
    case row
    /// Columns of the operand.
    case column
  }

  /// One digit of a lane's or an element's number.
  public struct Digit: Sendable, Hashable {
    /// Values of the digit, at least 2.
    public let extent: Int
    /// What it moves along.
    public let axis: Axis
    /// How far one step of it moves.
    public let stride: Int

    /// A digit of `extent` values that moves by `stride` along `axis`.
    public init(_ extent: Int, _ axis: Axis, stride: Int = 1) {
      self.extent = extent
      self.axis = axis
      self.stride = stride
    }
  }

  /// Where an element of a fragment stands.
  public struct Coordinate: Sendable, Hashable {
    /// Which of the fragment's independent tiles; 0 when there is one.
    public let tile: Int
    /// Row inside the tile.
    public let row: Int
    /// Column inside the tile.
    public let column: Int

    /// A place in a fragment.
    public init(tile: Int = 0, row: Int, column: Int) {
      self.tile = tile
      self.row = row
      self.column = column
    }
  }

  /// The lane and the element of it that hold a coordinate.
  public struct Position: Sendable, Hashable {
    /// The lane's number.
    public let lane: Int
    /// The element's number in the lane.
    public let element: Int

    /// An element of a lane.
    public init(lane: Int, element: Int) {
      self.lane = lane
      self.element = element
    }
  }

  /// The instruction and operand, e.g. `mma.m16n8k16.f16.b`.
  public let name: String
  /// Which operand it is, hence what rows and columns mean.
  public let operand: Operand
  /// Width of one element in the instruction's registers.
  public let elementBits: Int
  /// Digits of the lane number, least significant first; empty means a single lane.
  public let laneDigits: [Digit]
  /// Digits of the element number, least significant first.
  public let elementDigits: [Digit]

  /// Independent tiles that one instruction covers; 1 for most.
  public let tiles: Int
  /// Rows of a tile.
  public let rows: Int
  /// Columns of a tile.
  public let columns: Int
  /// Lanes that hold the fragment: 32 in a warp, the 32-bit columns of a vector on a CPU, 1 for a
  /// cube.
  public let lanes: Int
  /// Elements in a lane.
  public let elementsPerLane: Int

  /// Makes a fragment from digits and proves that they are a bijection.
  ///
  /// - Throws: ``LayoutError`` when a digit's extent is below 2, the strides along an axis are not
  ///   the running products of its extents (some coordinate would be held twice or never), or there
  ///   are more than 2²⁰ elements.
  public init(
    name: String, operand: Operand, elementBits: Int, lane: [Digit], element: [Digit]
  ) throws(LayoutError) {
    guard elementBits > 0, elementBits <= 64 else {
      throw LayoutError(name, "an element of \(elementBits) bits; 1…64 are possible")
    }
    for axis in [Axis.tile, .row, .column] {
      var next = 1
      for digit in (lane + element).filter({ $0.axis == axis }).sorted(by: { $0.stride < $1.stride }
      ) {
        guard digit.extent >= 2, digit.extent <= 1 << 16, digit.stride == next, next <= 1 << 16
        else {
          throw LayoutError(
            name, "digit \(digit.extent) with stride \(digit.stride) where stride \(next) belongs")
        }
        next *= digit.extent
      }
    }
    let elements = (lane + element).reduce(into: 1) { $0 = min($0 * $1.extent, 1 << 30) }
    guard elements <= 1 << 20 else {
      throw LayoutError(name, "more than \(1 << 20) elements in one instruction")
    }
    self.init(
      unchecked: name, operand: operand, elementBits: elementBits, lane: lane, element: element)
  }

  /// For the table below, whose bijections the tests prove.
  init(unchecked name: String, operand: Operand, elementBits: Int, lane: [Digit], element: [Digit])
  {
    self.name = name
    self.operand = operand
    self.elementBits = elementBits
    laneDigits = lane
    elementDigits = element
    func extent(_ axis: Axis) -> Int {
      (lane + element).reduce(1) { $1.axis == axis ? $0 * $1.extent : $0 }
    }
    tiles = extent(.tile)
    rows = extent(.row)
    columns = extent(.column)
    lanes = lane.reduce(1) { $0 * $1.extent }
    elementsPerLane = element.reduce(1) { $0 * $1.extent }
  }

  /// The coordinate that `element` of `lane` holds; both are taken modulo their counts.
  public func coordinate(lane: Int, element: Int) -> Coordinate {
    var tile = 0
    var row = 0
    var column = 0
    func spread(_ index: Int, _ digits: [Digit]) {
      var rest = UInt(bitPattern: index)
      for digit in digits {
        let value = Int(rest % UInt(digit.extent)) * digit.stride
        rest /= UInt(digit.extent)
        switch digit.axis {
        case .tile: tile += value
        case .row: row += value
        case .column: column += value
        }
      }
    }
    spread(lane, laneDigits)
    spread(element, elementDigits)
    return Coordinate(tile: tile, row: row, column: column)
  }

  /// The inverse of ``coordinate(lane:element:)``; indices are taken modulo the fragment's extents.
  public func position(of coordinate: Coordinate) -> Position {
    func gather(_ digits: [Digit]) -> Int {
      var index = 0
      var weight = 1
      for digit in digits {
        let value =
          switch digit.axis {
          case .tile: coordinate.tile
          case .row: coordinate.row
          case .column: coordinate.column
          }
        index += Int(UInt(bitPattern: value) / UInt(digit.stride) % UInt(digit.extent)) * weight
        weight *= digit.extent
      }
      return index
    }
    return Position(lane: gather(laneDigits), element: gather(elementDigits))
  }

  /// Elements of the whole fragment, over all tiles.
  public var elements: Int { tiles * rows * columns }
}

extension Fragment: CustomStringConvertible {
  /// `name rows×columns lane (extents):(strides) element (extents):(strides)`, strides marked r, c
  /// or t by axis.
  public var description: String {
    func print(_ digits: [Digit]) -> String {
      let extents = digits.map { "\($0.extent)" }.joined(separator: ",")
      let strides = digits.map { digit in
        switch digit.axis {
        case .tile: "t\(digit.stride)"
        case .row: "r\(digit.stride)"
        case .column: "c\(digit.stride)"
        }
      }
      return "(\(extents)):(\(strides.joined(separator: ",")))"
    }
    let count = tiles == 1 ? "" : "\(tiles)×"
    return
      "\(name) \(count)\(rows)×\(columns) lane \(print(laneDigits)) element \(print(elementDigits))"
  }
}
