#if MPI
  import QuantKernels

  /// What a rank tells each of the others, one message after the other: what it comes for, with the
  /// small part of its values for that rank behind it; that it has failed; that it has ended.
  ///
  /// 64-bit words, then bytes: kind; of a request its count, how many counts follow, the counts and
  /// those received; of an end whether it failed; of an error its code and the lengths of its three
  /// texts.
  enum ControlMessage {
    case request(CollectiveRequest, payload: Range<Int>)
    case failed(QuantError)
    /// The last message of a rank; `isOwn`: the error began there.
    case left(QuantError?, isOwn: Bool)

    private static let requests = CollectiveRequest.Kind.allCases
    private static let codes: [QuantError.Code] = [
      .invalidArgument, .invalidData, .missingFile, .unsupported, .outOfMemory, .cancelled,
    ]
    private static let failedWord = 100
    private static let leftWord = 101

    /// The words of a request, without its payload.
    static func words(_ request: CollectiveRequest) -> [Int] {
      [
        requests.firstIndex(of: request.kind) ?? 0, request.count, request.counts.count,
      ] + request.counts + request.receivedCounts
    }

    /// The bytes of a message without payload.
    var bytes: [UInt8] {
      switch self {
      case .request(let request, _): return Self.bytes(Self.words(request))
      case .failed(let error): return Self.bytes([Self.failedWord]) + Self.bytes(error)
      case .left(let error, let isOwn):
        return Self.bytes([Self.leftWord, error == nil ? 0 : isOwn ? 2 : 1])
          + (error.map { Self.bytes($0) } ?? [])
      }
    }

    private static func bytes(_ words: [Int]) -> [UInt8] {
      words.withUnsafeBytes { Array($0) }
    }

    private static func bytes(_ error: QuantError) -> [UInt8] {
      // A path may be long, and a message must not be.
      let texts = [error.subject, error.problem, error.remedy].map { Array($0.utf8.prefix(4096)) }
      return bytes([codes.firstIndex(of: error.code) ?? 0] + texts.map(\.count))
        + texts.flatMap { $0 }
    }

    /// A message as it came.
    ///
    /// - Throws: ``QuantError`` `.invalidData` for what is none.
    init(_ bytes: UnsafeRawBufferPointer, from rank: Int) throws(QuantError) {
      var place = 0
      func unreadable() -> QuantError {
        QuantError(
          .invalidData, "rank \(rank)", "sent a message that is none of this program's",
          remedy: "run the same build on every rank")
      }
      func word() throws(QuantError) -> Int {
        guard bytes.count - place >= 8 else { throw unreadable() }
        defer { place += 8 }
        return bytes.loadUnaligned(fromByteOffset: place, as: Int.self)
      }
      func error() throws(QuantError) -> QuantError {
        let code = try word()
        let lengths = [try word(), try word(), try word()]
        guard Self.codes.indices.contains(code) else { throw unreadable() }
        var texts: [String] = []
        for length in lengths {
          guard length >= 0, length <= bytes.count - place else { throw unreadable() }
          texts.append(
            String(
              decoding: UnsafeRawBufferPointer(rebasing: bytes[place..<place + length]),
              as: UTF8.self))
          place += length
        }
        return QuantError(Self.codes[code], texts[0], texts[1], remedy: texts[2])
      }
      let kind = try word()
      switch kind {
      case Self.failedWord: self = .failed(try error())
      case Self.leftWord:
        let state = try word()
        self = .left(state == 0 ? nil : try error(), isOwn: state == 2)
      default:
        guard Self.requests.indices.contains(kind) else { throw unreadable() }
        let count = try word()
        let parts = try word()
        guard count >= 0, parts >= 0, parts <= (bytes.count - place) / 16 else {
          throw unreadable()
        }
        var counts: [Int] = []
        for _ in 0..<2 * parts { counts.append(try word()) }
        self = .request(
          CollectiveRequest(
            Self.requests[kind], count: count, counts: Array(counts[..<parts]),
            receivedCounts: Array(counts[parts...])), payload: place..<bytes.count)
      }
    }
  }
#endif
