import DeviceModel

/// Scores of a decode step's queries: a tile of positions times a right operand, in one of three ways.
///
/// - ``Way/rebuild(headsPerBlock:)`` of one head is Palu's fused kernel (`kernel/abx_rope.py` of
///   shadowpa0327/Palu): a block has one query head and a tile of positions, walks the rank in steps of
///   32, rebuilds the head's keys in float32, rounds them, turns them by their positions and takes their
///   product with the query. Every head of a group reads the same latents again. The original's
///   missing masks are there.
/// - The same of all heads of a group, ours: latents come once, stay in shared memory for every head,
///   and a key-value head's keys are rebuilt once for all queries that share it.
/// - ``Way/direct``: scores of queries with what is cached: whole keys, or latents that queries were
///   taken to (no rotary embedding between them).
///
/// Rows of an up-projection are stored so that the two elements of a rotated pair are neighbors: then
/// one lane has both whatever the rotary style, and queries are stored in the same order. Scores are
/// binary16, scaled, in ``UnfusedScores``.
struct LatentScoresKernel: WarpKernel {
  enum Way: Sendable, Hashable {
    case rebuild(headsPerBlock: Int)
    case direct
  }

  /// What a block works on at a time.
  struct Tile: Sendable, Hashable {
    var positions: Int
    /// Latents of a step: 32 or 64.
    var depth: Int
    var rowWarps: Int
    var columnWarps: Int
    /// Buffers of the pipeline.
    var stages: Int

    var warps: Int { rowWarps * columnWarps }

    /// The settings in the comments of Palu's kernel, for groups of 4, 2 and 1 heads.
    static func palu(headsPerGroup: Int) -> Tile {
      Tile(
        positions: headsPerGroup >= 4 ? 128 : 64, depth: 32, rowWarps: 4, columnWarps: 1,
        stages: headsPerGroup == 1 ? 1 : 3)
    }

    /// Ours: as many positions as leave a group's latents room in shared memory.
    static func group(width: Int) -> Tile {
      let room = 64 << 10
      let padded = (width + 63) / 64 * 64
      let positions = [128, 64, 32].first { $0 * padded * 2 <= room } ?? 16
      let rowWarps = max(1, positions / 32)
      return Tile(
        positions: positions, depth: 64, rowWarps: rowWarps, columnWarps: 8 / rowWarps, stages: 2)
    }

    static let direct = Tile(positions: 128, depth: 64, rowWarps: 4, columnWarps: 1, stages: 2)
  }

  struct Registers: Sendable {
    var sums: [FloatAccumulator]
    var words = LatentTile.Words()
  }

  enum Site: Int, CaseIterable {
    case latentLoad, latentStore, scaleLoad, scaleStore, scaleRead, rightLoad, queryLoad, queryStore
    case leftOperand, rightOperand, bias, queryRead, partStore, partLoad, score
  }

  var sites: [String] {
    [
      "latent load", "latent store", "scale load", "scale store", "scale read", "B load", "Q load",
      "Q store", "latent operand", "B operand", "bias load", "Q read", "part store", "part load",
      "S store",
    ]
  }

  let way: Way
  let tile: Tile
  let latents: DeviceLatents
  /// Of rebuilding a set a key-value head, in the order of pairs; of direct scores a set a unit.
  let right: DecodeOperand
  /// Of rebuilding: queries by key-value head, in the order of pairs; else the right operand again.
  let queries: DecodeOperand
  let scores: UnfusedScores
  let scale: Float
  let phases: RotaryPhases
  let firstPosition: Int
  /// Key-value heads of a unit; of direct scores 1.
  let headsPerUnit: Int
  let product = WarpProduct(family: .ampere)
  let loader: LatentTile
  let addresses: Addresses

  var name: String {
    switch way {
    case .direct: "latent scores"
    case .rebuild(1) where phases.roundsKeys: "palu rebuild"
    case .rebuild: "group rebuild"
    }
  }

  init(
    _ way: Way, tile: Tile, latents: DeviceLatents, right: DecodeOperand, queries: DecodeOperand,
    scores: UnfusedScores, scale: Float, phases: RotaryPhases, firstPosition: Int,
    headsPerUnit: Int
  ) throws(QuantError) {
    self.way = way
    self.tile = tile
    self.latents = latents
    self.right = right
    self.queries = queries
    self.scores = scores
    self.scale = scale
    self.phases = phases
    self.firstPosition = firstPosition
    self.headsPerUnit = headsPerUnit
    loader = try LatentTile(
      latents, positions: tile.positions, columns: tile.depth, warps: tile.warps,
      sites: LatentTile.Sites(
        load: Site.latentLoad.rawValue, store: Site.latentStore.rawValue,
        scales: Site.scaleLoad.rawValue, scaleStore: Site.scaleStore.rawValue,
        scaleLoad: Site.scaleRead.rawValue))
    guard right.paddedRows <= 128 else {
      throw QuantError(
        .unsupported, "low-rank scores on a simulated GPU", "\(right.rows) rows of a unit",
        remedy: "use at most 128 query heads a group and heads of at most 128")
    }
    addresses = try Addresses(
      tile: tile, latentTile: loader.tile, rightRows: right.paddedRows, product: product,
      residentChunks: Self.residentChunks(way, loader.chunks), scaleBytes: loader.scaleBytes,
      queryBytes: way == .direct ? 0 : queries.paddedRows * queries.pitch * 2,
      queryRows: way == .direct ? 0 : queries.rows)
  }

  /// Chunks of latents that stay for all heads; none where they stream by.
  private static func residentChunks(_ way: Way, _ chunks: Int) -> Int {
    if case .rebuild(let heads) = way, heads > 1 { chunks } else { 0 }
  }

  // MARK: The grid

  /// Heads that a block rebuilds one after another.
  var headsInTurn: Int {
    if case .rebuild(let heads) = way { heads } else { 1 }
  }
  var tiles: Int { (latents.positions + tile.positions - 1) / tile.positions }
  /// Blocks of a tile: query heads for Palu's kernel, groups for ours and direct scores.
  var blocksPerTile: Int {
    switch way {
    case .direct: latents.units
    case .rebuild(1) where phases.roundsKeys: latents.units * headsPerUnit * queries.rows
    case .rebuild(let heads): latents.units * headsPerUnit / heads
    }
  }
  var blocks: Int { tiles * blocksPerTile }
  var warpsPerBlock: Int { tile.warps }
  var sharedBytesPerBlock: Int { addresses.sharedBytes }

  /// Query rows that a block's pass gives scores of.
  var rowsPerPass: Int {
    switch way {
    case .direct: right.rows
    case .rebuild(1) where phases.roundsKeys: 1
    case .rebuild: queries.rows
    }
  }

  struct Place: Sendable {
    let unit: Int
    let first: Int
    /// Of rebuilding, the first key-value head; the first query of it.
    let head: Int
    let query: Int
  }

  func place(_ block: Int) -> Place {
    let first = block / blocksPerTile * tile.positions
    let number = block % blocksPerTile
    switch way {
    case .direct: return Place(unit: number, first: first, head: number, query: 0)
    case .rebuild(1) where phases.roundsKeys:
      let head = number / queries.rows
      return Place(
        unit: head / headsPerUnit, first: first, head: head, query: number % queries.rows)
    case .rebuild(let heads):
      return Place(
        unit: number * heads / headsPerUnit, first: first, head: number * heads, query: 0)
    }
  }

  /// Blocks differ by where in a line their packed latents start, and in the last tile.
  var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let lines: Int
      let isLast: Bool
    }
    var tally = ClassTally<Key>()
    for index in 0..<tiles {
      let place = place(index * blocksPerTile)
      tally.add(
        Key(
          lines: latents.offset(unit: 0, position: place.first) % 128,
          isLast: index == tiles - 1),
        representative: index * blocksPerTile, count: blocksPerTile)
    }
    return tally.list
  }

  var rowBlocks: Int { max(1, tile.positions / tile.rowWarps / product.rows) }
  var columnBlocks: Int { right.paddedRows / tile.columnWarps / product.columns }
  var steps: Int { headsInTurn * loader.chunks }

  func makeRegisters() -> Registers {
    Registers(sums: Array(repeating: FloatAccumulator(), count: 2 * rowBlocks * columnBlocks))
  }
}

extension LatentScoresKernel {
  /// Address vectors that every step uses, and where in shared memory things are.
  struct Addresses: Sendable {
    /// `[row warp][row block][depth / 16]`, from a latent slot's start.
    let left: [[[Lanes<UInt32>]]]
    /// `[column warp][column block][depth / 16]`, from a right slot's start.
    let right: [[[Lanes<UInt32>]]]
    /// `[warp][round]` of the right operand: row, column and place of 16 bytes.
    let rightUnits: [[(rows: Lanes<UInt32>, columns: Lanes<UInt32>, to: Lanes<UInt32>)]]
    let rightBytes: Int
    let latentBytes: Int
    let rightStart: Int
    let scaleStart: Int
    let queryStart: Int
    let partStart: Int
    let sharedBytes: Int

    init(
      tile: Tile, latentTile: OperandTile, rightRows: Int, product: WarpProduct,
      residentChunks: Int, scaleBytes: Int, queryBytes: Int, queryRows: Int
    ) throws(QuantError) {
      let rightTile = try OperandTile(rows: rightRows, columns: tile.depth, order: .swizzled)
      rightBytes = rightTile.byteCount
      latentBytes = latentTile.byteCount
      rightStart = latentBytes * (residentChunks > 0 ? residentChunks : tile.stages)
      scaleStart = rightStart + tile.stages * rightBytes
      queryStart = scaleStart + scaleBytes
      partStart = queryStart + queryBytes
      sharedBytes =
        partStart
        + (tile.columnWarps > 1 ? 4 * tile.columnWarps * queryRows * tile.positions : 0)
      guard sharedBytes <= 227 << 10 else {
        throw QuantError(
          .unsupported, "low-rank scores on a simulated GPU",
          "\(sharedBytes) bytes of shared memory", remedy: "use a smaller rank or group")
      }
      let rowsPerWarp = max(product.rows, tile.positions / tile.rowWarps)
      let columnsPerWarp = rightRows / tile.columnWarps
      let depths = tile.depth / product.depth
      left = (0..<tile.rowWarps).map { warp in
        (0..<rowsPerWarp / product.rows).map { block in
          (0..<depths).map { step in
            TileAddresses.lanes(latentTile) { lane in
              let at = product.leftSource(lane: lane)
              return (
                warp * rowsPerWarp + block * product.rows + at.row,
                step * product.depth + at.column
              )
            }
          }
        }
      }
      right = (0..<tile.columnWarps).map { warp in
        (0..<columnsPerWarp / product.columns).map { block in
          (0..<depths).map { step in
            TileAddresses.lanes(rightTile) { lane in
              let at = product.rightSource(lane: lane)
              return (
                warp * columnsPerWarp + block * product.columns + at.row,
                step * product.depth + at.column
              )
            }
          }
        }
      }
      let units = tile.depth / 8
      let rounds = (rightRows * units + 32 * tile.warps - 1) / (32 * tile.warps)
      rightUnits = (0..<tile.warps).map { warp in
        (0..<rounds).map { round in
          func unit(_ lane: UInt32) -> Int { (round * tile.warps + warp) * 32 + Int(lane) }
          return (
            rows: .each { UInt32(unit($0) / units) },
            columns: .each { UInt32(unit($0) % units * 8) },
            to: .each {
              let row = min(unit($0) / units, rightRows - 1)
              return UInt32(rightTile.byteOffset(row: row, column: unit($0) % units * 8))
            }
          )
        }
      }
    }
  }
}
