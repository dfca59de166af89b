#if MPI
  import QuantKernels

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Darwin)
    import Darwin
  #endif

  extension MPICommunicator {
    /// Runs this process's rank and returns what `body` returns, when the bodies of all ranks have.
    ///
    /// All ranks call it, one call after the other. The first call starts MPI, which ends with the
    /// process. Until then a rank that calls `exit` in the middle of a body ends the others' work with
    /// an error.
    ///
    /// - Parameters:
    ///   - silenceLimit: seconds after which a rank without a sign of life is given up.
    ///   - longestPiece: the longest message in bytes; more go in several.
    ///   - body: gets this process's communicator.
    /// - Throws: `QuantError`, the same on every rank: what the rank that failed threw, its number
    ///   before the subject; where several failed by themselves, the lowest one's. Where a rank is
    ///   lost (``isBroken``) each rank throws what it knows. `.invalidArgument` for a call inside
    ///   another's body, `.unsupported` when MPI refuses.
    public static func run<Output>(
      silenceLimit: Int = 20, longestPiece: Int = 1 << 30,
      _ body: (MPICommunicator) throws -> Output
    ) throws(QuantError) -> Output {
      let communicator = try Process.shared.begin(
        silenceLimit: min(max(silenceLimit, 1), 3600),
        longestPiece: min(max(longestPiece, 1), 1 << 30))
      var output: Output?
      var failure: QuantError?
      do throws(QuantError) {
        output = try QuantError.translating { try body(communicator) }
      } catch {
        failure =
          communicator.firstFailure
          ?? QuantError(
            error.code, "rank \(communicator.rank), \(error.subject)", error.problem,
            remedy: error.remedy)
      }
      let agreed = communicator.leave(failure)
      Process.shared.end()
      if let agreed { throw agreed }
      // All ranks have ended without an error, this one too.
      guard let output else {
        throw QuantError(
          .invalidArgument, "rank \(communicator.rank)", "ended without a result",
          remedy: "look at its work")
      }
      return output
    }

    /// Calls `body` on the one rank that tells people how it went: rank 0, or the lowest one that is
    /// still heard where ranks are lost; on others only when nobody has ended them meanwhile.
    public func report(_ body: () -> Void) {
      guard isBroken else {
        if rank == 0 { body() }
        return
      }
      if rank != (0..<ranks).first(where: { $0 == rank || !link.isSilent($0) }) {
        sleep(3)
      }
      body()
    }

    // MARK: The end of a run

    /// Says how this rank has ended and hears how the others have.
    ///
    /// - Returns: the error of the run, the same on all ranks.
    func leave(_ failure: QuantError?) -> QuantError? {
      if isBroken { return failure ?? firstFailure }
      ends[rank] = End(error: failure, isOwn: failure != nil && isOwnFailure)
      if ranks > 1 {
        do throws(QuantError) {
          let message = ControlMessage.left(failure, isOwn: ends[rank]?.isOwn == true).bytes
          for peer in 0..<ranks where peer != rank { try link.post(message, to: peer) }
          try link.wait(
            for: { [self] in ends[$0] == nil },
            until: { [self] () throws(QuantError) in
              for peer in 0..<ranks {
                // What it came for meanwhile will not take place.
                while ends[peer] == nil, let message = try link.take(from: peer) {
                  if case .left(let error, let isOwn) = message {
                    ends[peer] = End(error: error, isOwn: isOwn)
                  }
                }
              }
              return !ends.contains { $0 == nil }
            })
        } catch {
          note(error, breaks: true)
          return failure ?? error
        }
      }
      // Every rank has the same list.
      return (ends.first { $0?.isOwn == true } ?? ends.first { $0?.error != nil })??.error
    }

    /// MPI of this process.
    final class Process: @unchecked Sendable {
      static let shared = Process()

      private let monitor = Monitor()
      private var communicator: MPICommunicator?
      private var isRunning = false

      func begin(silenceLimit: Int, longestPiece: Int) throws(QuantError) -> MPICommunicator {
        try monitor.locked { () throws(QuantError) in
          guard !isRunning else {
            throw QuantError(
              .invalidArgument, "MPI", "runs already in this process",
              remedy: "use the communicator that the running body has")
          }
          if let communicator {
            if communicator.isBroken, let failure = communicator.firstFailure { throw failure }
            communicator.reset()
            isRunning = true
            return communicator
          }
          let link = try MPILink(silenceLimit: silenceLimit, longestPiece: longestPiece)
          try link.open()
          let communicator = MPICommunicator(link)
          self.communicator = communicator
          isRunning = true
          atexit { Process.shared.exit() }
          return communicator
        }
      }

      func end() { monitor.locked { isRunning = false } }

      /// At the end of the process, however it comes about.
      private func exit() {
        let (communicator, isRunning) = monitor.locked { (self.communicator, self.isRunning) }
        guard let communicator else { return }
        if isRunning {
          _ = communicator.leave(
            QuantError(
              .invalidArgument, "rank \(communicator.rank)",
              "has ended its process in the middle of the work",
              remedy: "look at its output, and return from the work instead"))
        }
        // A rank that is lost would not come to MPI's end. 69: something is not available.
        if communicator.isBroken { communicator.link.abort(69) }
        communicator.link.close()
      }
    }
  }
#endif
