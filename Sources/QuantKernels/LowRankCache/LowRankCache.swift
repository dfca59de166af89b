import CQuantKernels
import Synchronization

/// The keys and values of one attention layer as low-rank latents (Palu, arXiv 2407.21118), for
/// positions 0 ..< ``count``.
///
/// Each token is quantized once, when it comes: scales are per token and group, so that nothing
/// waits in full precision for a group to fill. The memory is exactly ``bytesPerPosition`` a
/// position, and all of it is written as the cache fills.
///
/// One writer at a time, and no reader meanwhile.
public final class LowRankCache: @unchecked Sendable {
  /// The memory that the pages are of.
  public let pool: LowRankPool
  /// Positions appended so far.
  public private(set) var count: Int
  /// Pages of the pool, in order of positions.
  public let pages: [Int32]
  private let table: AlignedBuffer
  /// A group's numbers, and then its codes.
  private let scratch: AlignedBuffer
  private let kernels: UnsafePointer<qk_latent_kernels>

  /// The factors that latents are read by.
  public var layer: LowRankLayer { pool.layer }
  /// How latents of keys, or whole keys, are stored.
  public var keyType: LatentType { pool.keyType }
  /// How latents of values are stored.
  public var valueType: LatentType { pool.valueType }
  /// Positions that fit.
  public let capacity: Int
  /// Bytes set aside for this sequence's positions.
  public var byteCount: Int { pages.count * pool.pages.pageBytes }
  /// Bytes that one position takes, and that a decode step reads for every position it sees.
  public var bytesPerPosition: Int { pool.bytesPerPosition }

  /// What happens to a token with a number that is not finite or cannot be stored.
  public enum NonFinite: Sendable {
    /// The call throws and changes nothing.
    case refuse
    /// The token's group becomes NaN, and so does every output that sees it; other tokens are as
    /// they would have been without it. ``lostPositions()`` finds it.
    case keep
  }

  /// A cache in memory of its own.
  ///
  /// - Parameters:
  ///   - keyType: how latents of keys, or whole keys, are stored; `valueType` those of values.
  ///   - capacity: positions, at least 1; memory is for the next multiple of 16.
  ///   - layer: the layer's factors.
  ///   - valueType: how latents of values are stored.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for a capacity that is none, `.outOfMemory`.
  public convenience init(
    layer: LowRankLayer, keyType: LatentType, valueType: LatentType, capacity: Int,
    instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    guard 1...Int(Int32.max) ~= capacity else {
      throw QuantError(
        .invalidArgument, "low-rank cache", "\(capacity) positions",
        remedy: "use 1 to \(Int32.max)")
    }
    try self.init(
      pool: try LowRankPool(
        layer: layer, keyType: keyType, valueType: valueType,
        pageSize: (capacity + LatentType.block - 1) / LatentType.block * LatentType.block,
        pageCount: 1, instructionSet: instructionSet),
      pages: [0], count: 0, capacity: capacity)
  }

  /// A sequence in pages of a pool. Which pages are free is the caller's to know; writing into a page
  /// that another sequence shares changes it there too.
  ///
  /// - Parameters:
  ///   - pages: numbers of pool pages, in order of positions, each at most once.
  ///   - count: positions that they already hold.
  ///   - pool: the memory.
  /// - Throws: ``QuantError`` `.invalidArgument` for a page that the pool has not or that stands
  ///   twice, and for fewer pages than `count` positions take.
  public convenience init(
    pool: LowRankPool, pages: [Int32], count: Int = 0
  ) throws(QuantError) {
    try self.init(
      pool: pool, pages: pages, count: count, capacity: pages.count * pool.pageSize)
  }

  private init(
    pool: LowRankPool, pages: [Int32], count: Int, capacity: Int
  ) throws(QuantError) {
    try checkPageTable(pages, poolPages: pool.pageCount)
    guard 0...capacity ~= count else {
      throw QuantError(
        .invalidArgument, "page table",
        "\(count) positions in \(pages.count) pages of \(pool.pageSize)",
        remedy: "give a page for every \(pool.pageSize) positions")
    }
    self.pool = pool
    self.pages = pages
    self.count = count
    self.capacity = capacity
    table = try AlignedBuffer(count: 4 * max(pages.count, 1), for: "page table")
    let numbers = table.base.assumingMemoryBound(to: Int32.self)
    for (index, page) in pages.enumerated() { numbers[index] = page }
    let widest = (pool.layer.keyWidths + pool.layer.valueWidths).max() ?? 1
    scratch = try AlignedBuffer(
      count: 5 * LowRankLayer.padded(widest) + 64, for: "low-rank cache")
    kernels = qk_latent_kernels_for(pool.instructionSet.kernelTableIdentifier)
  }

  var view: LatentView {
    LatentView(
      pages: pool.pages, base: pool.buffer.base,
      table: UnsafePointer(table.base.assumingMemoryBound(to: Int32.self)), count: count,
      capacity: pages.count * pool.pageSize)
  }

  /// Forgets positions from `count` on; does nothing when there are none. O(1).
  public func truncate(to count: Int) { self.count = min(self.count, max(count, 0)) }

  // MARK: Appending

  /// Appends positions `self.count ..< self.count + count`.
  ///
  /// - Parameters:
  ///   - keys: latents of keys **before** the rotary embedding, `[count × Σr]`, or, where keys are
  ///     cached whole, keys after it, `[count × keyValueHeads · headDimension]`.
  ///   - values: latents of values, `[count × Σr]`.
  ///   - count: positions.
  ///   - nonFinite: what is done with numbers that are not finite.
  ///   - pool: the threads that take part in storing many positions; nil: the caller's.
  /// - Throws: ``QuantError``, having changed nothing: `.invalidArgument` when they do not fit,
  ///   `.invalidData` when a number is not finite or cannot be stored, unless `nonFinite` says to
  ///   keep it.
  /// - Complexity: O(count · Σr), and O(d_h log d_h) a whole key.
  public func append(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, count: Int,
    nonFinite: NonFinite = .refuse, pool: WorkerPool? = nil
  ) throws(QuantError) {
    guard count >= 0, count <= capacity - self.count else {
      throw QuantError(
        .invalidArgument, "low-rank cache",
        "\(count) positions where \(capacity - self.count) of \(capacity) are free",
        remedy: "make the cache larger, or truncate it")
    }
    let positions = self.count..<self.count + count
    // What is not to be stored is found on the way: positions from `count` on hold nothing yet.
    let isChecked = nonFinite == .refuse
    let refused = Atomic<UInt8>(0)
    // Positions of a block share bytes: a worker takes whole blocks.
    let first = positions.lowerBound / LatentType.block
    let blocks = (positions.upperBound + LatentType.block - 1) / LatentType.block - first
    if let pool, pool.threads > 1, blocks > 2 {
      pool.run(parts: blocks) { part, _ in
        let start = (first + part) * LatentType.block
        withUnsafeTemporaryAllocation(byteCount: scratch.count, alignment: 64) { own in
          guard let base = own.baseAddress else { return }
          let wrong = store(
            positions.clamped(to: start..<start + LatentType.block), of: positions.lowerBound,
            keys, values, isChecked: isChecked, base)
          if wrong != 0 { refused.bitwiseOr(wrong, ordering: .relaxed) }
        }
      }
    } else {
      let wrong = store(
        positions, of: positions.lowerBound, keys, values, isChecked: isChecked, scratch.base)
      refused.store(wrong, ordering: .relaxed)
    }
    let wrong = refused.load(ordering: .relaxed)
    guard wrong == 0 else {
      throw QuantError(
        .invalidData, wrong & Self.wrongKeys != 0 ? "keys" : "values",
        "not finite, or too large for this type, at positions from \(self.count) on",
        remedy: "look for NaN or infinity in the weights, or use f32 latents")
    }
    self.count += count
  }

  /// The same from buffers whose sizes say how many positions there are.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` also when they are not whole positions of equal
  ///   number.
  public func append(
    keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>,
    nonFinite: NonFinite = .refuse
  ) throws(QuantError) {
    let keyWidth = layer.inputWidth(.key)
    let valueWidth = layer.inputWidth(.value)
    guard keys.count % keyWidth == 0, values.count % valueWidth == 0,
      keys.count / keyWidth == values.count / valueWidth
    else {
      throw QuantError(
        .invalidArgument, "keys and values",
        "\(keys.count) and \(values.count) floats where multiples of \(keyWidth) and \(valueWidth) "
          + "are wanted",
        remedy: "give as many keys as values, in whole positions")
    }
    guard let keyBase = keys.baseAddress, let valueBase = values.baseAddress else { return }
    try append(
      keys: keyBase, values: valueBase, count: keys.count / keyWidth, nonFinite: nonFinite)
  }

  /// The largest magnitude of a key that is certain to fit once it is turned.
  private var largestKey: Float {
    let limit = keyType.largestStorable
    switch layer.keyMode {
    case .rebuilt: return limit
    // A rotation keeps the length of a vector, so it can make a number larger by √d_h.
    case .rotated: return limit / Float(layer.shape.headDimension + 1).squareRoot()
    // Two numbers with their bias, turned together and scaled: by √2, and a rounding or two.
    case .commuting:
      return limit / (1.4143 * max(1, abs(Float(layer.rotary.magnitude)))) - layer.largestLatentBias
    }
  }

  private static let wrongKeys: UInt8 = 1
  private static let wrongValues: UInt8 = 2

  /// Stores some positions of a call whose first is `first`.
  ///
  /// - Returns: which of them are not finite or too large, where that is checked; then nothing that
  ///   was stored counts.
  private func store(
    _ positions: Range<Int>, of first: Int, _ keys: UnsafePointer<Float>,
    _ values: UnsafePointer<Float>, isChecked: Bool, _ scratch: UnsafeMutableRawPointer
  ) -> UInt8 {
    let keyWidth = layer.inputWidth(.key)
    let valueWidth = layer.inputWidth(.value)
    let view = view
    let (keyGroups, valueGroups) = (pool.pages.keys, pool.pages.values)
    let largestKey = largestKey
    func areWithin(_ limit: Float, _ source: UnsafePointer<Float>, _ count: Int) -> Bool {
      !isChecked
        || VectorOperations.areWithin(
          limit, source, count: count, instructionSet: pool.instructionSet)
    }
    for position in positions {
      let key = keys + (position - first) * keyWidth
      let value = values + (position - first) * valueWidth
      guard areWithin(largestKey, key, keyWidth) else { return Self.wrongKeys }
      guard areWithin(valueType.largestStorable, value, valueWidth) else { return Self.wrongValues }
      store(key, .key, keyGroups, position, view, scratch)
      store(value, .value, valueGroups, position, view, scratch)
    }
    return 0
  }

  private func store(
    _ source: UnsafePointer<Float>, _ kind: LowRankFactors.Kind, _ groups: [LatentPages.Group],
    _ position: Int, _ view: LatentView, _ scratch: UnsafeMutableRawPointer
  ) {
    let numbers = scratch.assumingMemoryBound(to: Float.self)
    let block = position / LatentType.block
    let slot = position % LatentType.block
    let isValue: Int32 = kind == .value ? 1 : 0
    var first = 0
    for (index, group) in groups.enumerated() {
      var latents = source + first
      if kind == .key, layer.keyMode != .rebuilt {
        prepare(key: latents, group: index, first: first, position: position, into: numbers)
        latents = UnsafePointer(numbers)
      }
      first += group.width
      let target = view.block(group, block)
      if group.type.isPacked {
        let codes = (scratch + 4 * LowRankLayer.padded(group.width)).assumingMemoryBound(
          to: UInt8.self)
        var scale: UInt16 = 0
        var minimum: UInt16 = 0
        _ = kernels.pointee.quantize(
          latents, group.width, Int32(group.type.bits), codes, &scale, &minimum)
        qk_latent_store_codes(
          group.type.kernelType, isValue, codes, scale, minimum, group.width, slot, target)
      } else {
        if !VectorOperations.areWithin(
          group.type.largestStorable, latents, count: group.width,
          instructionSet: pool.instructionSet)
        {
          numbers.update(repeating: .nan, count: group.width)
          latents = UnsafePointer(numbers)
        }
        qk_latent_store_floats(
          group.type.kernelType, isValue, latents, group.width, slot, target)
      }
    }
  }

  /// Turns a whole key by the Hadamard rotation, or a commuting latent by its position.
  private func prepare(
    key: UnsafePointer<Float>, group: Int, first: Int, position: Int,
    into numbers: UnsafeMutablePointer<Float>
  ) {
    let width = pool.pages.keys[group].width
    if layer.keyMode == .rotated {
      rotateHeads(layer, kernels, key, rows: 1, into: numbers)
      return
    }
    let frequencies = layer.keyGroups[group].frequencies
    let bias = layer.latentBias.map { $0 + first }
    for pair in 0..<width / 2 {
      let (cosine, sine) = layer.angle(frequency: frequencies[pair], position: position)
      let real = key[2 * pair] + (bias?[2 * pair] ?? 0)
      let imaginary = key[2 * pair + 1] + (bias?[2 * pair + 1] ?? 0)
      numbers[2 * pair] = real * cosine - imaginary * sine
      numbers[2 * pair + 1] = real * sine + imaginary * cosine
    }
  }

  // MARK: Looking

  /// Positions of which a group holds no numbers, in ascending order: tokens that were not finite
  /// and were kept. O(count · groups).
  public func lostPositions() -> [Int] {
    (0..<count).filter { position in
      [(pool.pages.keys, false), (pool.pages.values, true)].contains { groups, isValue in
        groups.contains { group in
          let block = view.block(group, position / LatentType.block)
          let slot = position % LatentType.block
          if group.type.isPacked {
            let halves = block.assumingMemoryBound(to: UInt16.self)
            return halves[LatentType.block + slot] & 0x7FFF > 0x7C00
          }
          let element = isValue ? slot * group.width : slot
          return group.type == .f32
            ? block.assumingMemoryBound(to: Float.self)[element].isNaN
            : block.assumingMemoryBound(to: UInt16.self)[element] & 0x7FFF > 0x7C00
        }
      }
    }
  }

  /// The numbers that a position's latents stand for, group after group, as float32.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a position that the cache does not hold.
  public func latents(
    _ kind: LowRankFactors.Kind, position: Int
  ) throws(QuantError) -> [Float] {
    guard 0..<count ~= position else {
      throw QuantError(
        .invalidArgument, "position \(position)", "the cache holds \(count)",
        remedy: "append it first")
    }
    var all: [Float] = []
    for group in kind == .key ? pool.pages.keys : pool.pages.values {
      var numbers = [Float](repeating: 0, count: group.width)
      qk_latent_load(
        group.type.kernelType, kind == .value ? 1 : 0,
        view.block(group, position / LatentType.block), group.width,
        position % LatentType.block, nil, &numbers)
      all += numbers
    }
    return all
  }
}

/// Rows of a head's width turned by the Hadamard rotation.
func rotateHeads(
  _ layer: LowRankLayer, _ kernels: UnsafePointer<qk_latent_kernels>,
  _ source: UnsafePointer<Float>, rows: Int, into target: UnsafeMutablePointer<Float>
) {
  let d = layer.shape.headDimension
  guard let rotation = layer.rotation else {
    target.update(from: source, count: rows * d)
    kernels.pointee.hadamard(target, d, rows, 1 / Float(d).squareRoot())
    return
  }
  // The kernel writes whole vectors of 16: rows one after another, each over the next one's place.
  for row in 0..<rows {
    kernels.pointee.product(
      source + row * d, d, 1, d, rotation, layer.headStride, d, target + row * d, layer.headStride)
  }
}
