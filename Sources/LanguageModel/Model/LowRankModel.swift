import QuantKernels

/// How a model's sessions cache keys and values as low-rank latents.
public struct LowRankOptions: Sendable, Equatable {
  /// The factors, and the name that errors give them.
  public var file: LowRankFactorsFile
  /// What errors call the factors, usually their path.
  public var name: String
  /// How keys are cached; nil: as the factors say, or whole where this machine reads them faster.
  public var keyMode: LowRankFactors.KeyMode?
  /// How latents are stored; nil: in the factors' bits.
  public var valueType: LatentType?
  /// How latents of keys, or whole keys, are stored; nil: in the factors' bits, and at least 4 for
  /// whole keys.
  public var keyType: LatentType?

  /// Caches as the factors say.
  public init(file: LowRankFactorsFile, name: String) {
    self.file = file
    self.name = name
  }
}

/// A model's factors in the order in which attention reads them; shared by its sessions.
final class LowRankModel: Sendable {
  let layers: [LowRankLayer]
  let keyType: LatentType
  let valueType: LatentType

  /// - Throws: `QuantError` `.invalidData` for factors of another model, `.unsupported` where its
  ///   keys are normalized between the projection and the rotary embedding and are not cached whole,
  ///   and for sinks; `.invalidArgument` for a key mode that the factors were not made for;
  ///   `.outOfMemory`.
  init(_ options: LowRankOptions, model: LanguageModel) throws(QuantError) {
    try options.file.check(against: model, name: options.name)
    let factors = options.file.factors
    let bits = try LatentType(bits: factors.bits)
    valueType = options.valueType ?? bits
    let mode: LowRankFactors.KeyMode
    if let forced = options.keyMode {
      mode = forced
    } else if factors.keyMode == .rotated {
      mode = .rotated
    } else {
      let limits = try MachineLimits(
        pool: model.pool, instructionSet: model.options.instructionSet, bytes: 64 << 20)
      mode = LowRankBalance(measuring: limits).fastestKeyMode(
        factors, layer: 0, keyType: options.keyType ?? bits, valueType: valueType)
    }
    keyType = options.keyType ?? (mode == .rotated && factors.bits < 4 ? .fourBit : bits)
    let configuration = model.configuration
    var layers: [LowRankLayer] = []
    for index in 0..<configuration.layerCount {
      guard mode == .rotated || model.weights.layers[index].keyNorm == nil else {
        throw QuantError(
          .unsupported, options.name,
          "layer \(index) normalizes keys, which latents do not pass through",
          remedy: "use rotated keys")
      }
      let rotary =
        configuration.isLocal(layer: index) ? configuration.localRotary : configuration.rotary
      layers.append(
        try LowRankLayer(
          factors, layer: index,
          rotary: LowRankLayer.Rotary(
            frequencies: rotary.frequencies, magnitude: rotary.magnitude), keyMode: mode,
          arithmetic: model.options.arithmetic, instructionSet: model.options.instructionSet))
    }
    self.layers = layers
  }

  /// Bytes that a token takes, all layers together.
  var bytesPerToken: Int {
    layers.reduce(0) {
      $0 + LowRankCost($1, keyType: keyType, valueType: valueType).bytesPerToken
    }
  }
}

/// A session's low-rank caches, and the latents of a batch on their way into them.
final class LowRankCaches {
  let caches: [LowRankCache]
  private let workspace: LowRankWorkspace
  private let keys: FloatBuffer
  private let values: FloatBuffer
  private let arithmetic: LowRankAttention.Arithmetic

  init(
    _ model: LowRankModel, contextLength: Int, rows: Int, options: LanguageModel.Options
  ) throws(QuantError) {
    var caches: [LowRankCache] = []
    for layer in model.layers {
      caches.append(
        try LowRankCache(
          layer: layer, keyType: model.keyType, valueType: model.valueType,
          capacity: contextLength, instructionSet: options.instructionSet))
    }
    self.caches = caches
    workspace = LowRankWorkspace(instructionSet: options.instructionSet)
    func room(_ kind: LowRankFactors.Kind) -> Int {
      rows * ((model.layers.map { $0.inputWidth(kind) }.max() ?? 0) + 16)
    }
    keys = FloatBuffer(count: room(.key))
    values = FloatBuffer(count: room(.value))
    arithmetic = options.arithmetic == .exact ? .exact : .digits
  }

  func truncate(to position: Int) {
    for cache in caches { cache.truncate(to: position) }
  }

  /// Outputs of a layer's stacked projection that are used: values are projected from its input by
  /// the factors, and so are keys that are not cached whole.
  func denseOutputs(layer index: Int) -> Int {
    let layer = caches[index].layer
    let shape = layer.shape
    let heads = shape.queryHeads + (layer.keyMode == .rotated ? shape.keyValueHeads : 0)
    return heads * shape.headDimension
  }

  /// Appends a batch to a layer's cache.
  ///
  /// - Parameters:
  ///   - x: the layer's normalized input, `[count × width]`.
  ///   - wholeKeys: keys after the rotary embedding.
  ///   - products: scratch of the session's products.
  func append(
    layer index: Int, _ x: UnsafePointer<Float>, wholeKeys: UnsafePointer<Float>, count: Int,
    workspace products: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let cache = caches[index]
    let layer = cache.layer
    let level = workspace.instructionSet
    try layer.project(
      .value, x, count: count, into: values.pointer, instructionSet: level, workspace: products,
      pool: pool)
    try layer.project(
      .key, x, count: count, into: keys.pointer, instructionSet: level, workspace: products,
      pool: pool)
    try cache.append(
      keys: layer.keyMode == .rotated ? wholeKeys : UnsafePointer(keys.pointer),
      values: values.pointer, count: count, pool: pool)
  }

  func attend(
    layer index: Int, queries: UnsafePointer<Float>, queryWidth: Int, count: Int,
    firstPosition: Int, options: AttentionOptions, output: UnsafeMutablePointer<Float>,
    pool: WorkerPool
  ) throws(QuantError) {
    try LowRankAttention.run(
      queries: UnsafeBufferPointer(start: queries, count: count * queryWidth), count: count,
      firstPosition: firstPosition, cache: caches[index], options: options,
      arithmetic: arithmetic,
      output: UnsafeMutableBufferPointer(start: output, count: count * queryWidth),
      workspace: workspace, pool: pool)
  }
}
