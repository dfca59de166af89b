import DeviceModel
import Testing

@testable import QuantKernels

@Suite struct AttentionLayoutTests {
  static let families = [WarpProduct.Family.square, .rows, .ampere]

  /// Rows of 256 bytes: the same 8 bytes of eight rows stand in one pair of banks.
  @Test func eightRowsOfAColumnMeetInOnePairOfBanks() throws {
    func conflicts(_ order: OperandOrder, columns: Int) throws -> (ways: Int, wavefronts: Int) {
      let tile = try OperandTile(rows: 8, columns: columns, order: order)
      let addresses = Lanes<UInt32>.each { UInt32(tile.byteOffset(row: Int($0 % 8), column: 0)) }
      let access = try Access(.load, width: 8, mask: .first(8), addresses: addresses)
      let cost = bankCost(access)
      return (cost.wavefronts / cost.ideal, cost.wavefronts)
    }
    for columns in [64, 128] {
      #expect(try conflicts(.rowMajor, columns: columns) == (8, 8))
      #expect(try conflicts(.padded, columns: columns) == (1, 1))
      #expect(try conflicts(.swizzled, columns: columns) == (1, 1))
    }
  }

  @Test(arguments: OperandOrder.allCases, [64, 128])
  func tilesAreBijections(_ order: OperandOrder, _ columns: Int) throws {
    let tile = try OperandTile(rows: 32, columns: columns, order: order)
    var seen = Set<Int>()
    for row in 0..<32 {
      for column in 0..<columns {
        let at = tile.byteOffset(row: row, column: column)
        #expect(at + 2 <= tile.byteCount && seen.insert(at).inserted)
      }
    }
  }

  @Test func cutlassTilesAreBijections() {
    for tile in [CrosswiseTile(rows: 32, columns: 32), CrosswiseTile(rows: 64, columns: 128)] {
      let all = (0..<tile.rows).flatMap { row in
        (0..<tile.columns).map { tile.byteOffset(row: row, column: $0) }
      }
      #expect(Set(all).count == all.count && all.max()! < tile.byteCount)
    }
    for columns in [64, 128] {
      let tile = CongruousTile(rows: 32, columns: columns)
      let all = (0..<32).flatMap { row in
        (0..<columns).map { tile.byteOffset(row: row, column: $0) }
      }
      #expect(Set(all).count == all.count && all.max()! < tile.byteCount)
    }
  }

  /// Blocks, left operands and outputs of each family cover their elements once.
  @Test(arguments: families)
  func placesAreBijections(_ family: WarpProduct.Family) {
    let product = WarpProduct(family: family)
    func cover(_ elements: Int, _ place: (Int, Int) -> (row: Int, column: Int)) -> Set<[Int]> {
      Set(
        (0..<32).flatMap { lane in
          (0..<elements).map { [place(lane, $0).row, place(lane, $0).column] }
        })
    }
    let block = Set(
      (0..<product.rows).flatMap { row in (0..<product.columns).map { [row, $0] } })
    #expect(cover(8) { product.place(lane: $0, element: $1) } == block)
    if family != .ampere {
      #expect(cover(8) { product.halfPlace(lane: $0, element: $1) } == block)
    }
    let pairs = Set(block.filter { $0[1] % 2 == 0 })
    #expect(cover(product.leftWords) { product.leftPlace(lane: $0, word: $1) } == pairs)
    for width in [64, 128] {
      let blocks = width / product.columns
      var columns: [Int: Set<Int>] = [:]
      for index in 0..<blocks {
        for lane in 0..<32 {
          for element in 0..<8 {
            columns[product.place(lane: lane, element: element).row, default: []].insert(
              product.outputColumn(index: index, lane: lane, element: element))
          }
        }
      }
      #expect(columns.count == product.rows)
      #expect(columns.values.allSatisfy { $0 == Set(0..<width) })
    }
  }

  /// Six shuffles two by two, two one below the other, none with binary16 sums one below the other;
  /// never more than a lane's missing words.
  @Test func exchangesAreTheLeast() throws {
    let square = WarpProduct(family: .square)
    let rows = WarpProduct(family: .rows)
    let plans = [
      (square.leftExchange(halfSums: false), 6), (rows.leftExchange(halfSums: false), 2),
      (square.leftExchange(halfSums: true), 4), (rows.leftExchange(halfSums: true), 0),
      (WarpProduct.rowExchange, 2),
    ]
    for (plan, shuffles) in plans {
      #expect(plan.shuffles.count == shuffles)
      #expect(plan.leastShuffles == shuffles)
    }
    #expect(rows.leftExchange(halfSums: true).selects == 0)
    // On Ampere the accumulator's map is the left operand's.
    let ampere = WarpProduct(family: .ampere)
    for lane in 0..<32 {
      for word in 0..<4 {
        #expect(
          ampere.place(lane: lane, element: 2 * word) == ampere.leftPlace(lane: lane, word: word))
      }
    }
  }

  /// Every word arrives where the plan says.
  @Test(arguments: [WarpProduct.Family.square, .rows], [false, true])
  func exchangesDeliver(_ family: WarpProduct.Family, _ halfSums: Bool) throws {
    let product = WarpProduct(family: family)
    let plan = product.leftExchange(halfSums: halfSums)
    @Sendable func name(_ at: (row: Int, column: Int)) -> UInt32 {
      UInt32(at.row * 100 + at.column)
    }
    let kernel = OneWarpText { (warp) throws(DeviceError) in
      let words = (0..<4).map { word in
        Lanes<UInt32>.each { lane in
          name(
            halfSums
              ? product.halfPlace(lane: Int(lane), element: 2 * word)
              : product.place(lane: Int(lane), element: 2 * word))
        }
      }
      let moved = plan(words, &warp)
      for (word, lanes) in moved.enumerated() {
        for lane in 0..<32 {
          #expect(lanes[lane] == name(product.leftPlace(lane: lane, word: word)))
        }
      }
    }
    let counters = try WarpSimulator().run(kernel)
    #expect(counters.instructions[.shuffle, default: 0] == plan.shuffles.count)
  }
}

/// A kernel of one warp whose text is a closure.
private struct OneWarpText: WarpKernel {
  let body: @Sendable (inout Warp) throws(DeviceError) -> Void
  var name: String { "one warp" }
  var sites: [String] { [] }
  var blocks: Int { 1 }
  var warpsPerBlock: Int { 1 }
  var sharedBytesPerBlock: Int { 0 }
  func makeRegisters() -> Bool { false }
  func run(_ block: inout Block<Bool>, pass: Int) throws(DeviceError) {
    try block.eachWarp { (warp, _) throws(DeviceError) in try body(&warp) }
  }
}
