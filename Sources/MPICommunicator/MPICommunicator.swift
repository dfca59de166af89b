#if MPI
  import QuantKernels

  /// Ranks that are processes, started by `mpirun` on one machine or several.
  ///
  /// Before a collective every rank tells every other what it came for, with the values for that rank
  /// behind it where they are few; what ranks disagree on, that one has failed or that one has ended
  /// is so known to all before memory is touched. An all-reduce is a reduce-scatter and an all-gather:
  /// each rank adds up one part in the order of ranks, as `ThreadCommunicator` does, so that bits
  /// and ``traffic`` are the same on both carriers. MPI's own sums have no fixed order.
  ///
  /// A rank's process that dies is the launcher's to notice, and ends all others; one that stops or
  /// cannot be reached is given up after some seconds without a sign of life.
  public final class MPICommunicator: Communicator, @unchecked Sendable {
    public var rank: Int { link.rank }
    public var ranks: Int { link.ranks }
    /// Ranks on this machine.
    public var localRanks: Int { link.localRanks }

    let link: MPILink
    private let monitor = Monitor()
    private var counted = CommunicationTraffic()
    private var failure: QuantError?
    private var failureIsOwn = false
    private var isInside = false
    private var isLinkBroken = false
    /// Terms of an all-reduce, one rank's after the other; grows to the largest.
    private var scratch: AlignedBuffer?

    /// How a rank has ended.
    struct End {
      let error: QuantError?
      /// Whether it began there.
      let isOwn: Bool
    }

    /// The ranks that have; touched by the thread that is in a collective, or by the end of the run.
    var ends: [End?]

    /// Bytes for one rank up to which values travel with the request. MPI copies messages of this size
    /// as well, and a phase of its own costs more than the copy.
    static let inlineBytes = 1 << 15

    init(_ link: MPILink) {
      self.link = link
      ends = [End?](repeating: nil, count: link.ranks)
    }

    /// Forgets the last run.
    func reset() {
      monitor.locked {
        counted = CommunicationTraffic()
        failure = nil
        failureIsOwn = false
        ends = [End?](repeating: nil, count: ranks)
      }
    }

    public var traffic: CommunicationTraffic { monitor.locked { counted } }

    // MARK: Failures

    /// The first error that this rank knows of.
    var firstFailure: QuantError? { monitor.locked { failure } }

    /// Whether it, or what this rank failed with outside collectives, began here.
    var isOwnFailure: Bool { monitor.locked { failure == nil || failureIsOwn } }

    /// Whether a rank is lost: messages can no more be exchanged, and when this process ends, all
    /// are ended.
    public var isBroken: Bool { monitor.locked { isLinkBroken } }

    public func abort(_ error: QuantError) { fail(error) }

    /// Notes an error unless there is one, and tells the others.
    private func fail(_ error: QuantError) {
      let isFirst = monitor.locked {
        if failure != nil { return false }
        failure = error
        failureIsOwn = true
        return !isLinkBroken
      }
      guard isFirst else { return }
      for peer in 0..<ranks where peer != rank {
        do throws(QuantError) {
          try link.post(ControlMessage.failed(error).bytes, to: peer)
        } catch {
          // A rank that cannot be told so will notice by its own wait.
        }
      }
    }

    /// Notes an error that another rank has told of, or that leaves no way to tell.
    func note(_ error: QuantError, breaks: Bool) {
      monitor.locked {
        failure = failure ?? error
        if breaks { isLinkBroken = true }
      }
    }

    private static func isMissing(_ rank: Int) -> QuantError {
      QuantError(
        .invalidArgument, "rank \(rank)", "has ended while others wait for it in a collective",
        remedy: "call the same collectives on every rank")
    }

    // MARK: Collectives

    public func barrier() throws(QuantError) {
      try collective(CollectiveRequest(.barrier, count: 0)) { () throws(QuantError) in }
    }

    public func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
      let count = values.count
      let own = part(rank, count)
      // Whole cache lines for each.
      let slot = (own.count * 4 + 63) / 64 * 64
      try collective(
        CollectiveRequest(.allReduce, count: count), scratchBytes: slot * ranks,
        sending: { [self] peer in Self.bytes(values, part(peer, count)) },
        receiving: { [self] peer in
          UnsafeMutableRawBufferPointer(
            start: scratch.map { $0.base + peer * slot }, count: own.count * 4)
        },
        then: { [self] () throws(QuantError) in
          guard let base = values.baseAddress, ranks > 1 else { return }
          if !own.isEmpty, let scratch {
            let sums = base + own.lowerBound
            let terms = (0..<ranks).map { peer in
              peer == rank
                ? UnsafePointer(sums)
                : UnsafePointer((scratch.base + peer * slot).assumingMemoryBound(to: Float.self))
            }
            OrderedSum.add(terms, count: own.count) { block, start, count in
              (sums + start).update(from: block, count: count)
            }
          }
          try link.exchange(
            sending: { _ in Self.bytes(values, own) },
            receiving: { [self] peer in
              UnsafeMutableRawBufferPointer(
                UnsafeMutableBufferPointer(rebasing: values[part(peer, count)]))
            })
        })
    }

    public func allGather(
      _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
    ) throws(QuantError) {
      let request = try checked { () throws(QuantError) in
        try CollectiveRequest.allGather(own.count, into: all.count, rank: rank, ranks: ranks)
      }
      try collective(
        request, sending: { _ in UnsafeRawBufferPointer(own) },
        receiving: { peer in
          UnsafeMutableRawBufferPointer(
            UnsafeMutableBufferPointer(rebasing: all[peer * own.count..<(peer + 1) * own.count]))
        },
        then: { () throws(QuantError) in
          if let from = own.baseAddress, let to = all.baseAddress {
            (to + rank * own.count).update(from: from, count: own.count)
          }
        })
    }

    public func allToAll(
      _ values: UnsafeBufferPointer<Float>, counts: [Int],
      into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
    ) throws(QuantError) {
      let request = try checked { () throws(QuantError) in
        try CollectiveRequest.allToAll(
          values.count, counts: counts, into: received.count, receivedCounts: receivedCounts,
          rank: rank, ranks: ranks)
      }
      let sources = Self.ranges(counts)
      let places = Self.ranges(receivedCounts)
      try collective(
        request,
        sending: { peer in
          UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: values[sources[peer]]))
        },
        receiving: { peer in
          UnsafeMutableRawBufferPointer(
            UnsafeMutableBufferPointer(rebasing: received[places[peer]]))
        },
        then: { () throws(QuantError) in
          if let from = values.baseAddress, let to = received.baseAddress {
            (to + places[rank].lowerBound).update(
              from: from + sources[rank].lowerBound, count: sources[rank].count)
          }
        })
    }

    /// What only this rank can fail in, before it meets the others; an error ends them too.
    private func checked<Value>(
      _ value: () throws(QuantError) -> Value
    ) throws(QuantError) -> Value {
      do throws(QuantError) { return try value() } catch {
        fail(error)
        throw error
      }
    }

    /// Meets the others, moves the values that the request is about, and does what is left to do.
    private func collective(
      _ request: CollectiveRequest, scratchBytes: Int = 0,
      sending: (Int) -> UnsafeRawBufferPointer = { _ in nothing },
      receiving: (Int) -> UnsafeMutableRawBufferPointer = { _ in noRoom },
      then finish: () throws(QuantError) -> Void
    ) throws(QuantError) {
      let start = MonotonicClock.nanoseconds()
      try enter()
      defer { monitor.locked { isInside = false } }
      if ranks > 1 {
        if scratchBytes > scratch?.count ?? 0 {
          scratch = try checked { () throws(QuantError) in
            try AlignedBuffer(count: scratchBytes, for: "terms of an all-reduce")
          }
        }
        try meet(request, sending: sending, receiving: receiving)
        do throws(QuantError) {
          // What was too long to come with the requests.
          try link.exchange(
            sending: {
              let values = sending($0)
              return Self.isInline(values.count) ? Self.nothing : values
            },
            receiving: {
              let room = receiving($0)
              return Self.isInline(room.count) ? Self.noRoom : room
            })
          try finish()
        } catch {
          note(error, breaks: true)
          throw error
        }
      } else {
        try finish()
      }
      if let sent = request.traffic(rank: rank, ranks: ranks) {
        monitor.locked { counted.add(sent, seconds: MonotonicClock.seconds(since: start)) }
      }
    }

    private func enter() throws(QuantError) {
      let isFree = monitor.locked {
        defer { isInside = true }
        return !isInside
      }
      guard isFree else {
        let error = QuantError(
          .invalidArgument, "rank \(rank)", "calls two collectives at once",
          remedy: "call them from one thread, one after the other")
        fail(error)
        throw error
      }
      if let failure = firstFailure {
        monitor.locked { isInside = false }
        throw failure
      }
    }

    /// Tells all others what this rank came for and hears what they did; the small parts of values
    /// are there afterwards.
    private func meet(
      _ request: CollectiveRequest, sending: (Int) -> UnsafeRawBufferPointer,
      receiving: (Int) -> UnsafeMutableRawBufferPointer
    ) throws(QuantError) {
      var requests = [CollectiveRequest?](repeating: nil, count: ranks)
      var payloads = [Range<Int>](repeating: 0..<0, count: ranks)
      requests[rank] = request
      do throws(QuantError) {
        let message = ControlMessage.words(request).withUnsafeBytes { Array($0) }
        for step in 1..<ranks {
          let peer = (rank + step) % ranks
          let values = sending(peer)
          try link.post(
            message, payload: Self.isInline(values.count) ? values : Self.nothing, to: peer)
        }
        var told: QuantError?
        var missing: Int?
        try link.wait(
          for: { requests[$0] == nil },
          until: { () throws(QuantError) in
            told = firstFailure
            for peer in 0..<ranks where requests[peer] == nil && told == nil && missing == nil {
              if let end = ends[peer] {
                (told, missing) = (end.error, peer)
                continue
              }
              switch try link.take(from: peer) {
              case nil: break
              case .request(let other, let payload):
                requests[peer] = other
                payloads[peer] = payload
              case .failed(let error): told = error
              case .left(let error, let isOwn):
                ends[peer] = End(error: error, isOwn: isOwn)
                (told, missing) = (error, peer)
              }
            }
            return told != nil || missing != nil || !requests.contains { $0 == nil }
          })
        if let told {
          note(told, breaks: false)
          throw told
        }
        if let missing {
          let error = Self.isMissing(missing)
          fail(error)
          throw error
        }
      } catch {
        if firstFailure == nil { note(error, breaks: true) }
        throw error
      }
      if let error = CollectiveRequest.disagreement(among: requests.compactMap { $0 }) {
        fail(error)
        throw error
      }
      for peer in 0..<ranks where peer != rank {
        let room = receiving(peer)
        guard Self.isInline(room.count), let to = room.baseAddress else { continue }
        let message = link.bytes(of: peer)
        guard payloads[peer].count == room.count, let from = message.baseAddress else {
          let error = QuantError(
            .invalidData, "rank \(peer)", "sent \(payloads[peer].count) bytes of \(room.count)",
            remedy: "run the same build on every rank")
          fail(error)
          throw error
        }
        to.copyMemory(from: from + payloads[peer].lowerBound, byteCount: room.count)
      }
    }

    // MARK: Memory

    private static var nothing: UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(start: nil, count: 0)
    }
    private static var noRoom: UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    private static func isInline(_ bytes: Int) -> Bool { bytes <= inlineBytes }

    private static func bytes(
      _ values: UnsafeMutableBufferPointer<Float>, _ range: Range<Int>
    ) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(UnsafeMutableBufferPointer(rebasing: values[range]))
    }

    private func part(_ rank: Int, _ count: Int) -> Range<Int> {
      CollectiveRequest.part(rank, of: ranks, count: count)
    }

    private static func ranges(_ counts: [Int]) -> [Range<Int>] {
      var end = 0
      return counts.map { count in
        defer { end += count }
        return end..<end + count
      }
    }
  }
#endif

#if MPI
  extension MPICommunicator: RankCarrier {
    /// Runs `body` on this process's rank, inside a body of ``run(silenceLimit:longestPiece:_:)``.
    public func run<Output: Sendable>(
      _ body: @escaping @Sendable (any Communicator) throws -> Output
    ) throws(QuantError) -> [Output] {
      do throws(QuantError) {
        return [try QuantError.translating { try body(self) }]
      } catch {
        if let failure = firstFailure { throw failure }
        throw error
      }
    }
  }
#endif
