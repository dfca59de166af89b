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
  /// - Returns: what each rank's body returns, by rank.
  /// - Throws: ``QuantError``: what the first rank to fail threw, when all have ended; as
  ///   ``init(path:options:cancellation:progress:)`` and ``ThreadCommunicator``.
  public static func run<Output: Sendable>(
    path: String, options: Options = Options(), ranks: Int,
    cancellation: CancellationFlag? = nil,
    progress: (@Sendable (Double) -> Void)? = nil,
    _ body: @escaping @Sendable (_ session: Session, _ rank: Int) throws -> Output
  ) throws(QuantError) -> [Output] {
    let work: @Sendable (ThreadCommunicator) throws -> Output = { communicator in
      var own = options
      own.rank = communicator.rank
      own.ranks = ranks
      own.threads = max(1, (options.threads ?? WorkerPool.processorCount) / max(ranks, 1))
      var report: ((Double) -> Void)?
      if communicator.rank == 0, let progress { report = { progress($0) } }
      let model = try LanguageModel(
        path: path, options: own, cancellation: cancellation, progress: report)
      return try body(try model.makeSession(communicator: communicator), communicator.rank)
    }
    return try ThreadCommunicator.run(ranks: ranks, work)
  }

  /// This rank's end of the connection, once all ranks have the same model.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a connection of other ranks, or none where the
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
    return communicator
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
