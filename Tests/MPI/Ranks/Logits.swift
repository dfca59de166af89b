import LanguageModel
import QuantKernels

/// A llama with as many heads of keys and values as eight ranks need.
func writeModel(_ path: String, seed: UInt64) throws {
  var model = SyntheticModel(.llama)
  model.seed = seed
  model.layerCount = 2
  model.headCount = 8
  model.keyValueHeadCount = 8
  model.headDimension = 32
  model.embeddingLength = 128
  model.feedForwardLength = 512
  try model.write(to: path)
}

/// Bits of the logits of a prompt's tokens and of steps after it.
func logits(_ session: Session, _ vocabulary: Int) throws -> [UInt32] {
  let tokens = (0..<12).map { Int32(3 + $0 * 17 % (vocabulary - 3)) }
  var bits: [UInt32] = []
  try session.forward(Array(tokens[..<9]), logits: 0..<9) { rows, logits in
    bits += UnsafeBufferPointer(start: logits, count: rows.count * vocabulary).map(\.bitPattern)
  }
  for token in tokens[9...] {
    try session.forward(token: token)
    bits += session.logits.map(\.bitPattern)
  }
  return bits
}

#if MPI
  import MPICommunicator

  /// A model on processes, on threads, and on one rank that adds up in their order: the same bits.
  func compareLogits(
    _ communicator: MPICommunicator, model: String, int4: String?
  ) throws -> String {
    var options = LanguageModel.Options()
    options.threads = communicator.localRanks
    options.contextLength = 64
    options.int4Layers = int4
    var compared = 0
    for arithmetic in Arithmetic.allCases {
      options.arithmetic = arithmetic
      let body: @Sendable (Session, Int) throws -> [UInt32] = { session, _ in
        try logits(session, session.model.configuration.vocabularySize)
      }
      let found = try LanguageModel.run(path: model, options: options, on: communicator, body)[0]
      // One process compares for all, which have the same bits if they have rank 0's sum of them.
      let sum = found.reduce(into: UInt64(7)) { $0 = $0 &* 31 &+ UInt64($1) }
      try communicator.requireAgreement(sum, on: "logits")
      compared += found.count
      guard communicator.rank == 0 else { continue }
      let threads = try LanguageModel.run(
        path: model, options: options, ranks: communicator.ranks, body)
      try require(threads.allSatisfy { $0 == found }, "\(arithmetic): threads have other bits")
      var alone = options
      alone.reductionParts = communicator.ranks
      let one = try LanguageModel(path: model, options: alone)
      try require(
        try logits(one.makeSession(), one.configuration.vocabularySize) == found,
        "\(arithmetic): one rank has other bits")
    }
    return "\(communicator.ranks) ranks: \(compared) logits have threads' and one rank's bits"
  }
#endif
