import QuantKernels
import Synchronization

/// A decoder of a GGUF file, its weights packed for this processor's kernels.
///
/// ```swift
/// let model = try LanguageModel(path: "model.gguf")
/// let result = try model.generate(prompt: "The capital of France is")
/// ```
///
/// A model is immutable and may be shared; each conversation is a ``Session`` with its own
/// key-value cache. Sessions of one model share its worker pool, so that their steps run one after
/// another.
public final class LanguageModel: Sendable {
  /// How a model is loaded and run.
  public struct Options: Sendable, Equatable {
    /// Worker threads; nil takes one for each processor.
    public var threads: Int?
    /// `.fast` quantizes activations to int8 per group of 32; `.exact` computes in float32
    /// throughout.
    public var arithmetic = Arithmetic.fast
    /// How sessions store keys and values.
    public var keyValueType = KeyValueType.f16
    /// Caches latents in place of keys and values of that type; nil does not.
    public var lowRank: LowRankOptions?
    /// Positions of a session; nil takes what the model was trained for, at most 4096.
    public var contextLength: Int?
    /// The kernels' instruction set.
    public var instructionSet = InstructionSet.best
    /// How ternary matrices (TQ1_0, TQ2_0, I2_S) are held; nil takes the lossless format that this
    /// machine reads fastest with these threads.
    public var ternaryFormat: PackedTernary.Format?
    /// The order of I2_S codes, which no file states; x86 builds make the published ones.
    public var i2sOrder = I2SOrder.x86
    /// Int4 safetensors layers that take the place of the file's linear layers: what `convert --to
    /// gptq` made of this model.
    public var int4Layers: String?
    /// This rank's number among those that share the model; its sessions need their communicator.
    public var rank = 0
    /// Ranks that share the model: heads, hidden channels and vocabulary.
    public var ranks = 1
    /// Adds up products over inputs in as many parts, as so many ranks do: one rank then has their
    /// bits.
    public var reductionParts = 1
    /// Bytes that weights and one session may take; nil means the machine's memory.
    public var memoryLimit: Int?

    /// The defaults: all processors, fast arithmetic, float16 keys and values.
    public init() {}
  }

  /// What the file says of the network.
  public let configuration: ModelConfiguration
  /// How the model was loaded.
  public let options: Options
  /// The file's tokenizer.
  public let tokenizer: Tokenizer
  /// The threads that all sessions of this model share.
  public let pool: WorkerPool
  /// The open file: its metadata and tensors.
  public let file: GGUFFile
  let weights: DecoderWeights
  /// The parts of all ranks; one where the model is whole.
  let parts: [ModelPart]
  /// What low-rank caches read their latents by, made when first asked for.
  private let lowRankModel = Mutex<LowRankModel?>(nil)

  /// Positions of a session that does not ask for another number.
  public var contextLength: Int { options.contextLength ?? min(configuration.contextLength, 4096) }

  /// The token that a text can start from: the tokenizer's BOS, when the file states one or has
  /// prompts begin with it. (Readers fall back on a conventional number otherwise, which need not
  /// be a BOS at all.)
  var startToken: Int32? {
    let isStated = file.metadata.integer("tokenizer.ggml.bos_token_id") != nil
    return isStated || tokenizer.addsBeginningOfSequence ? tokenizer.beginningOfSequence : nil
  }

  /// Bytes of weights that decoding one token reads.
  public var weightBytesPerToken: Int { weights.byteCountPerToken }

  /// Bytes of the head's matrix among them.
  public var headBytes: Int { weights.head.byteCount }

  /// How the file's ternary matrices are held, and why; nil when it has none.
  public var ternary: TernaryWeights? { weights.ternary }

  /// Opens, checks and packs a model.
  ///
  /// - Parameters:
  ///   - cancellation: looked at between matrices.
  ///   - progress: called on this thread with the share of the weights packed, 0…1.
  ///   - path: the file.
  ///   - options: threads, arithmetic, cache and limits.
  /// - Throws: `QuantError` `.missingFile`; `.invalidData` for a damaged or inconsistent file;
  ///   `.unsupported` for an architecture, variant, tokenizer or tensor type that cannot run;
  ///   `.outOfMemory`, before anything is allocated, when weights and one session would not fit;
  ///   `.invalidArgument` for a bad option; `.cancelled`.
  /// - Complexity: O(size of the file).
  public convenience init(
    path: String, options: Options = Options(), cancellation: CancellationFlag? = nil,
    progress: ((Double) -> Void)? = nil
  ) throws(QuantError) {
    try self.init(
      file: GGUFFile(path: path), options: options, cancellation: cancellation, progress: progress)
  }

  /// Checks and packs a model from an open file.
  ///
  /// - Throws: as ``init(path:options:cancellation:progress:)``.
  public init(
    file: GGUFFile, options: Options = Options(), cancellation: CancellationFlag? = nil,
    progress: ((Double) -> Void)? = nil
  ) throws(QuantError) {
    guard options.instructionSet.isSupported else {
      throw QuantError(
        .unsupported, "instruction set", "this processor does not run \(options.instructionSet)",
        remedy: "choose one of \(InstructionSet.supported.map(\.rawValue).joined(separator: ", "))")
    }
    if let threads = options.threads, !(1...256).contains(threads) {
      throw QuantError(
        .invalidArgument, "threads", "\(threads) is outside 1…256", remedy: "pass 1…256")
    }
    self.file = file
    let whole = try ModelConfiguration(file: file)
    let cut = try ModelCut(file: file, configuration: whole, options: options)
    parts = cut.parts
    configuration = cut.own.map { whole.part($0) } ?? whole
    self.options = options
    if let context = options.contextLength {
      try Session.check(contextLength: context, of: configuration)
    }
    let context = options.contextLength ?? min(configuration.contextLength, 4096)
    let session = Session.byteCount(
      configuration: configuration, contextLength: context, keyValueType: options.keyValueType)
    let tensors = DecoderWeights.memory(of: file, arithmetic: options.arithmetic)
    try MemoryRequirement.check(
      MemoryRequirement.sum(tensors + [[session]]),
      limit: options.memoryLimit ?? MemoryRequirement.availableBytes, subject: file.path,
      remedy: "use a smaller model or type, or a shorter context")
    tokenizer = try Tokenizer(metadata: file.metadata)
    pool = options.threads.map { WorkerPool(threads: $0) } ?? WorkerPool.standard
    weights = try DecoderWeights(
      file: file, configuration: whole, options: options, cut: cut, pool: pool,
      cancellation: cancellation, progress: progress)
  }

  /// A new, empty conversation.
  ///
  /// - Parameters: nil takes the model's option; a model that ranks share needs this rank's end of
  ///   their connection, and every rank makes its session at the same time.
  /// - Throws: `QuantError` `.invalidArgument` when the context is out of range, `.outOfMemory`
  ///   when its cache would not fit beside the weights.
  public func makeSession(
    contextLength: Int? = nil, keyValueType: KeyValueType? = nil,
    communicator: (any Communicator)? = nil
  ) throws(QuantError) -> Session {
    try Session(
      model: self, contextLength: contextLength ?? self.contextLength,
      keyValueType: keyValueType ?? options.keyValueType,
      lowRank: keyValueType == nil ? try lowRank() : nil, communicator: communicator)
  }

  /// The factors that the options name, in the order in which attention reads them.
  private func lowRank() throws(QuantError) -> LowRankModel? {
    guard let options = options.lowRank else { return nil }
    guard parts.count <= 1 else {
      throw QuantError(
        .unsupported, "--kv-cache palu:\(options.name)", "groups of heads are not cut over ranks",
        remedy: "use one rank, or a dense cache")
    }
    if let path = self.options.int4Layers,
      MovedOrders(of: try SafetensorsModel(path: path)).hasMovedValues
    {
      throw QuantError(
        .unsupported, path, "its values are in another order than those of \(options.name)",
        remedy: "use int4 layers that were converted without --tp-aware, or a dense cache")
    }
    return try lowRankModel.withLock { model throws(QuantError) in
      if let model { return model }
      let made = try LowRankModel(options, model: self)
      model = made
      return made
    }
  }
}
