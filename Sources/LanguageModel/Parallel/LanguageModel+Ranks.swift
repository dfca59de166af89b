import QuantKernels

extension LanguageModel {
  /// Runs `body` on ranks that are threads and share a model: each has its part of the heads, the
  /// hidden channels and the vocabulary, and a session that all of them read together.
  ///
  /// Every rank must make the same calls with the same tokens; logits are the same bits on all of
  /// them, so that what follows from logits need not be sent around.
  ///
  /// - Parameters:
  ///   - options: of each rank; `threads` are divided among them.
  ///   - progress: called on rank 0 with the share of its weights packed, 0…1.
  ///   - body: gets this rank's session, and its number.
  ///   - path: the file.
  ///   - ranks: threads that share the model.
  ///   - cancellation: looked at while loading.
  /// - Returns: what each rank's body returns, by rank.
  /// - Throws: `QuantError`: what the first rank to fail threw, when all have ended; as
  ///   ``init(path:options:cancellation:progress:)`` and `ThreadCommunicator`.
  public static func run<Output: Sendable>(
    path: String, options: Options = Options(), ranks: Int,
    cancellation: CancellationFlag? = nil,
    progress: (@Sendable (Double) -> Void)? = nil,
    _ body: @escaping @Sendable (_ session: Session, _ rank: Int) throws -> Output
  ) throws(QuantError) -> [Output] {
    try run(
      path: path, options: options, on: ThreadCarrier(ranks: ranks), cancellation: cancellation,
      progress: progress, body)
  }

  /// The same on ranks that are threads or processes. Processes each open the file at `path`, which
  /// must be the same one, and map it; each packs its part only.
  ///
  /// - Parameters:
  ///   - path: the model's file.
  ///   - options: of each rank; `threads` are divided among those of one machine.
  ///   - carrier: what runs the ranks.
  ///   - cancellation: looked at between matrices.
  ///   - progress: called on rank 0 with the share of its weights packed, 0…1.
  ///   - body: gets this rank's session, and its number.
  /// - Returns: what the bodies of this process's ranks return.
  /// - Throws: as ``run(path:options:ranks:cancellation:progress:_:)`` and the carrier.
  public static func run<Output: Sendable>(
    path: String, options: Options = Options(), on carrier: any RankCarrier,
    cancellation: CancellationFlag? = nil,
    progress: (@Sendable (Double) -> Void)? = nil,
    _ body: @escaping @Sendable (_ session: Session, _ rank: Int) throws -> Output
  ) throws(QuantError) -> [Output] {
    let threads = carrier.threadsPerRank(of: options.threads)
    return try carrier.run { communicator in
      var own = options
      own.rank = communicator.rank
      own.ranks = communicator.ranks
      own.threads = threads
      var report: ((Double) -> Void)?
      if communicator.rank == 0, let progress { report = { progress($0) } }
      let model = try LanguageModel(
        path: path, options: own, cancellation: cancellation, progress: report)
      return try body(try model.makeSession(communicator: communicator), communicator.rank)
    }
  }

  /// This rank's end of the connection, once all ranks have the same model.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for a connection of other ranks, or none where the
  ///   model is shared; `.invalidData` on all ranks when one has other weights.
  func connected(_ communicator: (any Communicator)?) throws(QuantError) -> (any Communicator)? {
    guard options.ranks > 1 else { return nil }
    guard let communicator, communicator.rank == options.rank,
      communicator.ranks == options.ranks
    else {
      throw QuantError(
        .invalidArgument, "session",
        "rank \(options.rank) of \(options.ranks) got the connection of "
          + (communicator.map { "rank \($0.rank) of \($0.ranks)" } ?? "none"),
        remedy: "make sessions of a shared model with each rank's own communicator")
    }
    try communicator.requireAgreement(try fingerprint(), on: "model of the ranks")
    try communicator.requireAgreement(settings, on: "options of the ranks")
    return communicator
  }

  /// What of the options must be the same on all ranks.
  private var settings: UInt64 {
    let text = "\(options.arithmetic) \(options.keyValueType) \(contextLength)"
    var hash = XXH64()
    Array(text.utf8).withUnsafeBytes { hash.update($0) }
    return hash.finish()
  }

  /// XXH64 of the file's tensors and those of its int4 layers.
  private func fingerprint() throws(QuantError) -> UInt64 {
    var hash = XXH64()
    for tensor in file.tensors { hash.update(file.bytes(of: tensor)) }
    file.directory?.updateInt4(&hash)
    if let path = options.int4Layers { try Int4Overlay(path: path, file: file).update(&hash) }
    return hash.finish()
  }
}
