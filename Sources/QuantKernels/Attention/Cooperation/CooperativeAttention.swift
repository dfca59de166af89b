import DeviceModel

/// A simulated machine whose caches lie partly with the devices and partly with the host, run with
/// real values.
///
/// Every device has its heads' keys and values of what the placement leaves it, in a memory that
/// refuses what does not fit; the host has the rest, for all heads. The devices attend in tiles of
/// 64 keys with ``AttentionPartial``. The host attends to whole layers with this processor's own
/// ``Attention`` kernels, to token ranges with ``AttentionPartial`` in tiles of 256, whose results
/// the devices merge with theirs. Elements are float32.
public final class CooperativeAttention {
  /// What crossed the links between all devices and the host.
  public struct Traffic: Sendable, Hashable {
    /// Queries that went to the host, bytes.
    public internal(set) var queryBytes = 0
    /// Outputs or partial results that came back, bytes.
    public internal(set) var resultBytes = 0
    /// Keys and values that were copied to the devices, bytes.
    public internal(set) var copiedBytes = 0
    /// Transfers of either direction.
    public internal(set) var messages = 0

    /// Nothing yet.
    public init() {}
  }

  /// What a pass gave.
  public struct Output: Sendable {
    /// By layer, `[rows × (queryHeads · headDimension)]`.
    public let values: [[Float]]
    /// What crossed the links.
    public let traffic: Traffic
    /// What the pass takes, modelled.
    public let time: CooperationTime
  }

  /// The model, the machine and their formulas.
  public let planner: CooperationPlanner
  /// What lies where.
  public let placement: KeyValuePlacement
  /// How the host's part is used.
  public let hostPart: HostPart
  /// Tokens of every layer.
  public let tokens: Int
  /// The memories of the devices that caches can have, with what they hold.
  public private(set) var deviceMemories: [MemoryPool]
  /// The host's.
  public private(set) var hostMemory: MemoryPool

  /// Keys and values of some heads over some tokens, head by head.
  private struct Store {
    var keys: [[Float]] = []
    var values: [[Float]] = []

    init(
      keys: [Float], values: [Float], heads: Range<Int>, of allHeads: Int, dimension: Int,
      tokens: Range<Int>
    ) {
      func gather(_ source: [Float], _ head: Int) -> [Float] {
        var out: [Float] = []
        out.reserveCapacity(tokens.count * dimension)
        for token in tokens {
          let start = (token * allHeads + head) * dimension
          out += source[start..<start + dimension]
        }
        return out
      }
      for head in heads {
        self.keys.append(gather(keys, head))
        self.values.append(gather(values, head))
      }
    }

    private init(keys: [[Float]], values: [[Float]]) {
      self.keys = keys
      self.values = values
    }

    /// A copy of some heads and tokens.
    func slice(heads: Range<Int>, tokens: Range<Int>, dimension: Int) -> Store {
      let floats = tokens.lowerBound * dimension..<tokens.upperBound * dimension
      return Store(
        keys: heads.map { Array(keys[$0][floats]) }, values: heads.map { Array(values[$0][floats]) }
      )
    }
  }

  private static let deviceTile = 64
  private static let hostTile = 256

  /// By layer and device: what the devices hold.
  private var deviceStores: [[Store]] = []
  /// By layer: the host's token range of all heads.
  private var hostStores: [Store?] = []
  /// By layer: the host's whole layers, for the processor's kernels.
  private var hostCaches: [KeyValueCache?] = []

  /// Places a cache.
  ///
  /// - Parameters:
  ///   - keys: by layer, `[tokens × (keyValueHeads · headDimension)]`; `values` likewise.
  ///   - planner: the machine and the model.
  ///   - placement: which layers' keys and values lie where.
  ///   - hostPart: what happens to the host's part.
  ///   - values: as `keys`.
  /// - Throws: ``QuantError``: `.outOfMemory` when a part does not fit its memory, `.invalidArgument`
  ///   for sizes that do not fit together, `.unsupported` for a batch, elements that are not float32,
  ///   and heads that the devices do not divide; `.invalidData` for keys or values on the host that
  ///   are not finite.
  /// - Complexity: O(elements).
  public init(
    _ planner: CooperationPlanner, placement: KeyValuePlacement, hostPart: HostPart,
    keys: [[Float]], values: [[Float]]
  ) throws(QuantError) {
    let model = planner.model
    let devices = planner.machine.devices
    let subject = "cooperative attention"
    guard planner.batch == 1, model.elementBytes == 4 else {
      throw QuantError(
        .unsupported, subject,
        "batch \(planner.batch) with elements of \(model.elementBytes) bytes",
        remedy: "simulate one sequence of float32, elementBytes 4")
    }
    guard model.queryHeads % devices == 0,
      model.keyValueHeads % devices == 0 || devices % model.keyValueHeads == 0
    else {
      throw QuantError(
        .unsupported, subject,
        "\(model.queryHeads) and \(model.keyValueHeads) heads on \(devices) devices",
        remedy: "use devices that divide the heads")
    }
    let width = model.keyValueHeads * model.headDimension
    let tokens = (keys.first?.count ?? 0) / width
    guard keys.count == model.layers, values.count == model.layers,
      keys.allSatisfy({ $0.count == tokens * width }),
      values.allSatisfy({ $0.count == tokens * width })
    else {
      throw QuantError(
        .invalidArgument, subject,
        "keys of \(keys.map(\.count)) and values of \(values.map(\.count)) floats for "
          + "\(model.layers) layers of \(width) a token",
        remedy: "pass as many whole tokens for every layer")
    }
    try planner.checkFits(placement, tokens: tokens)
    self.planner = planner
    self.placement = placement
    self.hostPart = hostPart
    self.tokens = tokens
    let free = try planner.freeBytes(tokens: tokens)
    deviceMemories = try (0..<devices).map { device throws(QuantError) in
      try QuantError.translating {
        try MemoryPool(name: "device \(device)", capacity: free)
      }
    }
    hostMemory = try QuantError.translating {
      try MemoryPool(name: "the host", capacity: planner.hostFreeBytes)
    }
    for layer in 0..<model.layers {
      try place(layer, keys: keys[layer], values: values[layer])
    }
  }

  // MARK: Placement

  /// The heads of keys and values that a device's query heads use; devices share one where there are
  /// fewer heads than devices.
  private func keyValueHeads(of device: Int) -> Range<Int> {
    let (heads, devices) = (planner.model.keyValueHeads, planner.machine.devices)
    if heads >= devices {
      let own = heads / devices
      return device * own..<(device + 1) * own
    }
    let head = device * heads / devices
    return head..<head + 1
  }

  /// Tokens of a layer that the host has: the first ones.
  private func hostTokens(of layer: Int) -> Int {
    switch placement {
    case .layers(let count):
      KeyValuePlacement.spread(count, over: planner.model.layers).contains(layer) ? tokens : 0
    case .tokens(let count): count
    }
  }

  private func place(_ layer: Int, keys: [Float], values: [Float]) throws(QuantError) {
    let model = planner.model
    let onHost = hostTokens(of: layer)
    var stores: [Store] = []
    for device in deviceMemories.indices {
      let bytes = planner.layerBytesPerDevice(tokens: tokens - onHost)
      try QuantError.translating {
        try deviceMemories[device].reserve(bytes, for: "the cache of layer \(layer)")
      }
      stores.append(
        Store(
          keys: keys, values: values, heads: keyValueHeads(of: device), of: model.keyValueHeads,
          dimension: model.headDimension, tokens: onHost..<tokens))
    }
    deviceStores.append(stores)
    try QuantError.translating {
      try hostMemory.reserve(
        planner.layerBytesOnHost(tokens: onHost), for: "the cache of layer \(layer)")
    }
    var isWholeLayer = false
    if case .layers = placement { isWholeLayer = onHost > 0 }
    if isWholeLayer, hostPart == .computed {
      let cache = try KeyValueCache(
        type: .f32, keyValueHeads: model.keyValueHeads, headDimension: model.headDimension,
        capacity: max(1, tokens))
      var failure: QuantError?
      keys.withUnsafeBufferPointer { keys in
        values.withUnsafeBufferPointer { values in
          do throws(QuantError) { try cache.append(keys: keys, values: values) } catch {
            failure = error
          }
        }
      }
      if let failure { throw failure }
      hostCaches.append(cache)
      hostStores.append(nil)
    } else {
      hostCaches.append(nil)
      hostStores.append(
        onHost == 0
          ? nil
          : Store(
            keys: keys, values: values, heads: 0..<model.keyValueHeads, of: model.keyValueHeads,
            dimension: model.headDimension, tokens: 0..<onHost))
    }
  }

  // MARK: A pass

  /// Causal attention of `rows` rows of every layer.
  ///
  /// - Parameters:
  ///   - queries: by layer, `[rows × (queryHeads · headDimension)]`.
  ///   - firstPosition: the position of the first row; row i sees tokens 0 ... firstPosition + i.
  ///   - rows: queries of each layer.
  ///   - scale: of the scores.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes and positions that do not fit,
  ///   `.outOfMemory` where a copied piece does not fit a device.
  /// - Complexity: O(layers · rows · tokens · queryHeads · headDimension).
  public func run(
    queries: [[Float]], rows: Int, firstPosition: Int, scale: Float
  ) throws(QuantError) -> Output {
    let model = planner.model
    let width = model.queryHeads * model.headDimension
    let (floats, overflows) = rows.multipliedReportingOverflow(by: width)
    guard rows >= 0, !overflows, firstPosition >= 0, firstPosition <= tokens,
      rows <= tokens - firstPosition, queries.count == model.layers,
      queries.allSatisfy({ $0.count == floats }), scale.isFinite
    else {
      throw QuantError(
        .invalidArgument, "cooperative attention",
        "\(rows) rows from \(firstPosition) on over \(tokens) tokens, queries of "
          + "\(queries.map(\.count)) floats for \(model.layers) layers of \(width) a row, scale "
          + "\(scale)",
        remedy: "pass queries of every layer for rows whose tokens are there")
    }
    var traffic = Traffic()
    var outputs: [[Float]] = []
    for layer in 0..<model.layers {
      var output = [Float](repeating: 0, count: floats)
      let pass = Pass(
        layer: layer, queries: queries[layer], rows: rows, first: firstPosition, scale: scale)
      if rows > 0 {
        if let cache = hostCaches[layer] {
          try attendOnHost(pass, cache, &output, &traffic)
        } else {
          for device in deviceMemories.indices {
            try attend(pass, on: device, &output, &traffic)
          }
        }
      }
      outputs.append(output)
    }
    return Output(
      values: outputs, traffic: traffic,
      time: try planner.time(placement, hostPart, queries: rows, tokens: tokens))
  }

  private struct Pass {
    let layer: Int
    let queries: [Float]
    let rows: Int
    let first: Int
    let scale: Float
  }

  private static let floatBytes = MemoryLayout<Float>.size

  /// A layer that is the host's: its queries come down, its outputs go up, device by device.
  private func attendOnHost(
    _ pass: Pass, _ cache: KeyValueCache, _ output: inout [Float], _ traffic: inout Traffic
  ) throws(QuantError) {
    let model = planner.model
    let devices = deviceMemories.count
    let bytes = pass.queries.count / devices * Self.floatBytes
    traffic.queryBytes += devices * bytes
    traffic.resultBytes += devices * bytes
    traffic.messages += 2 * devices
    var failure: QuantError?
    pass.queries.withUnsafeBufferPointer { queries in
      output.withUnsafeMutableBufferPointer { output in
        do throws(QuantError) {
          try Attention.run(
            queries: queries, heads: model.queryHeads, count: pass.rows, firstPosition: pass.first,
            cache: cache, options: AttentionOptions(scale: pass.scale), output: output,
            workspace: hostWorkspace, pool: hostPool)
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }

  private let hostWorkspace = AttentionWorkspace()
  private let hostPool = WorkerPool(threads: 1)

  /// One device's heads of a layer.
  private func attend(
    _ pass: Pass, on device: Int, _ output: inout [Float], _ traffic: inout Traffic
  ) throws(QuantError) {
    let dimension = planner.model.headDimension
    let own = planner.model.queryHeads / deviceMemories.count
    let onHost = hostTokens(of: pass.layer)
    let heads = device * own..<(device + 1) * own
    var partials = [AttentionPartial](
      repeating: try AttentionPartial(width: dimension), count: pass.rows * own)
    let firstHead = keyValueHeads(of: device).lowerBound
    let mine = deviceStores[pass.layer][device]
    guard let store = hostStores[pass.layer] else {
      try see(pass, heads, &partials, mine, firstHead: firstHead, from: 0, Self.deviceTile)
      write(partials, heads, &output)
      return
    }
    switch hostPart {
    case .computed:
      traffic.queryBytes += partials.count * dimension * Self.floatBytes
      try see(pass, heads, &partials, store, firstHead: 0, from: 0, Self.hostTile)
      // m, l and o of every row and head.
      traffic.resultBytes += partials.count * (dimension + 2) * Self.floatBytes
      traffic.messages += 2
      var rest = [AttentionPartial](
        repeating: try AttentionPartial(width: dimension), count: partials.count)
      try see(pass, heads, &rest, mine, firstHead: firstHead, from: onHost, Self.deviceTile)
      for index in partials.indices { try partials[index].merge(rest[index]) }
    case .copied:
      for piece in try pieces(of: onHost, on: device) {
        let copied = store.slice(
          heads: keyValueHeads(of: device), tokens: piece, dimension: dimension)
        let bytes = piece.count * planner.layerBytesPerDevice(tokens: 1)
        try QuantError.translating {
          try deviceMemories[device].reserve(bytes, for: "a copied piece")
        }
        traffic.copiedBytes += bytes
        traffic.messages += 1
        try see(
          pass, heads, &partials, copied, firstHead: firstHead, from: piece.lowerBound,
          Self.deviceTile)
        try QuantError.translating { try deviceMemories[device].release(bytes) }
      }
      try see(pass, heads, &partials, mine, firstHead: firstHead, from: onHost, Self.deviceTile)
    }
    write(partials, heads, &output)
  }

  /// Lets every row and head, head by head, see the visible tokens of a store that begins at token
  /// `from` and with head `firstHead`.
  private func see(
    _ pass: Pass, _ heads: Range<Int>, _ partials: inout [AttentionPartial], _ store: Store,
    firstHead: Int, from first: Int, _ tile: Int
  ) throws(QuantError) {
    let model = planner.model
    let dimension = model.headDimension
    for head in heads {
      let shared = head / (model.queryHeads / model.keyValueHeads) - firstHead
      let keys = store.keys[shared]
      for row in 0..<pass.rows {
        let start = (row * model.queryHeads + head) * dimension
        let visible = min(max(0, pass.first + row + 1 - first) * dimension, keys.count)
        try partials[(head - heads.lowerBound) * pass.rows + row].attend(
          query: pass.queries[start..<start + dimension], keys: keys[..<visible],
          values: store.values[shared][..<visible], scale: pass.scale, tile: tile)
      }
    }
  }

  private func write(
    _ partials: [AttentionPartial], _ heads: Range<Int>, _ output: inout [Float]
  ) {
    let model = planner.model
    let rows = partials.count / heads.count
    for (index, partial) in partials.enumerated() {
      let head = heads.lowerBound + index / rows
      let start = (index % rows * model.queryHeads + head) * model.headDimension
      output.replaceSubrange(start..<start + model.headDimension, with: partial.normalized)
    }
  }

  /// The host's tokens in pieces of whole tiles that fit what a device has left.
  private func pieces(of count: Int, on device: Int) throws(QuantError) -> [Range<Int>] {
    let token = planner.layerBytesPerDevice(tokens: 1)
    let room = deviceMemories[device].free / token
    let piece = room >= count ? count : room / Self.deviceTile * Self.deviceTile
    guard piece > 0 else {
      throw QuantError(
        .outOfMemory, "device \(device)",
        "\(deviceMemories[device].free) bytes are free, a copied piece of \(Self.deviceTile) tokens "
          + "takes \(Self.deviceTile * token)",
        remedy: "leave more on the host")
    }
    return stride(from: 0, to: count, by: piece).map { $0..<min($0 + piece, count) }
  }
}
