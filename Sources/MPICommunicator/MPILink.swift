#if MPI
  import CMPI
  import QuantKernels

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Darwin)
    import Darwin
  #endif

  /// This process's connection with the other ranks: messages that nobody waits for inside MPI, and
  /// who is still there.
  ///
  /// MPI waits by spinning, and without end for a rank that has stopped. So nothing here blocks in
  /// it: calls are short and under one lock, waits sleep between them, and a thread of its own says
  /// once a second that this rank lives and counts the seconds since the others did.
  final class MPILink: @unchecked Sendable {
    let rank: Int
    let ranks: Int
    /// Ranks on this machine.
    let localRanks: Int
    /// Seconds after which a rank that says nothing is given up.
    let silenceLimit: Int
    /// The longest message that MPI is asked to send at once: its counts are 32-bit integers.
    let longestPiece: Int

    private let communicator: MPI_Comm?
    private let monitor = Monitor()
    private var peers: [Peer]
    private var posted: [Posted] = []
    private var isClosed = false
    private var ticker: JoinableThread?
    private let aliveByte = UnsafeMutableRawPointer.allocate(byteCount: 2, alignment: 1)
    /// Polls before a wait begins to sleep.
    private let eagerNanoseconds: UInt64

    private static let controlTag: Int32 = 1
    private static let dataTag: Int32 = 2
    private static let aliveTag: Int32 = 3

    /// Another rank, as seen from here.
    private struct Peer {
      var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
      var isReceiving = false
      var length = 0
      var request = qk_mpi_no_request()
      var alive = qk_mpi_no_request()
      /// Seconds since anything came.
      var silence = 0
    }

    /// A message on its way, with its memory.
    private struct Posted {
      var request: MPI_Request?
      let bytes: UnsafeMutableRawPointer
    }

    /// Starts MPI. Once a process.
    ///
    /// - Throws: `QuantError` `.unsupported` when MPI refuses.
    init(silenceLimit: Int, longestPiece: Int) throws(QuantError) {
      self.silenceLimit = silenceLimit
      self.longestPiece = longestPiece
      var provided: Int32 = 0
      try Self.check(
        MPI_Init_thread(nil, nil, Int32(qk_mpi_serialized()), &provided), "MPI_Init_thread")
      guard provided >= qk_mpi_serialized() else {
        throw QuantError(
          .unsupported, "MPI", "does not let several threads call it in turn",
          remedy: "use an MPI that was built with threads")
      }
      let world = qk_mpi_world()
      _ = MPI_Comm_set_errhandler(world, qk_mpi_return_errors())
      var (rank, ranks, local): (Int32, Int32, Int32) = (0, 1, 1)
      try Self.check(MPI_Comm_rank(world, &rank), "MPI_Comm_rank")
      try Self.check(MPI_Comm_size(world, &ranks), "MPI_Comm_size")
      // Messages of this package and of others' must not meet.
      var copy: MPI_Comm? = qk_mpi_no_communicator()
      try Self.check(MPI_Comm_dup(world, &copy), "MPI_Comm_dup")
      communicator = copy
      _ = MPI_Comm_set_errhandler(copy, qk_mpi_return_errors())
      var near: MPI_Comm? = qk_mpi_no_communicator()
      try Self.check(
        MPI_Comm_split_type(world, Int32(qk_mpi_shared_memory()), rank, qk_mpi_no_info(), &near),
        "MPI_Comm_split_type")
      try Self.check(MPI_Comm_size(near, &local), "MPI_Comm_size")
      _ = MPI_Comm_free(&near)
      self.rank = Int(rank)
      self.ranks = Int(ranks)
      localRanks = Int(local)
      peers = [Peer](repeating: Peer(), count: Int(ranks))
      // A message takes microseconds, a sleep of the shortest kind about 60 µs: it pays to look for as
      // long first, unless this rank's looking keeps another from running.
      eagerNanoseconds = Int(local) <= WorkerPool.processorCount ? 100_000 : 0
      aliveByte.initializeMemory(as: UInt8.self, repeating: 0, count: 2)
    }

    /// Begins to say that this rank lives.
    ///
    /// - Throws: `QuantError` `.outOfMemory` when the system gives no thread.
    func open() throws(QuantError) {
      guard ranks > 1 else { return }
      ticker = try JoinableThread { [self] in
        var ticks = 0
        while !monitor.locked({ isClosed }) {
          // Ends soon after it is told to, and counts only the seconds in which it ran itself: a
          // process that was stopped must not take the others for gone when it goes on.
          usleep(20_000)
          ticks += 1
          if ticks % 50 == 0 { tick() }
        }
      }
    }

    /// Ends MPI; all ranks call it.
    func close() {
      stopTicking()
      if ranks > 1 {
        // What is on its way has been asked for: all ranks have heard each other's last message.
        let start = MonotonicClock.nanoseconds()
        while monitor.locked({
          reap()
          return !posted.isEmpty
        }), MonotonicClock.seconds(since: start) < 5 { usleep(100) }
      }
      MPI_Finalize()
    }

    /// Ends all ranks at once, through the launcher, with an exit code.
    func abort(_ code: Int32) -> Never {
      stopTicking()
      _ = MPI_Abort(qk_mpi_world(), code)
      _exit(code)
    }

    private func stopTicking() {
      monitor.locked { isClosed = true }
      ticker?.join()
      ticker = nil
    }

    /// Throws what an MPI function's return value says.
    private static func check(_ code: Int32, _ function: String) throws(QuantError) {
      if code == 0 { return }
      var text = [CChar](repeating: 0, count: Int(qk_mpi_longest_error()) + 1)
      var length: Int32 = 0
      let known = MPI_Error_string(code, &text, &length) == 0
      let reason =
        known
        ? String(
          decoding: text.prefix(max(0, Int(length))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        : "error \(code)"
      throw QuantError(
        .unsupported, "MPI", "\(function) failed: \(reason)",
        remedy: "look at the launcher's messages and the network between the ranks")
    }

    // MARK: Who is there

    /// Whether a rank has been given up.
    func isSilent(_ peer: Int) -> Bool {
      monitor.locked { peers[peer].silence > silenceLimit }
    }

    private func tick() {
      monitor.locked {
        var (found, source): (Int32, Int32) = (1, 0)
        while true {
          var status = MPI_Status()
          guard
            MPI_Iprobe(qk_mpi_any_source(), Self.aliveTag, communicator, &found, &status) == 0,
            found != 0
          else { break }
          source = status.MPI_SOURCE
          // One byte is there as a whole.
          guard
            MPI_Recv(
              aliveByte + 1, 1, qk_mpi_byte(), source, Self.aliveTag, communicator,
              qk_mpi_ignore_status()) == 0
          else { break }
          // The count goes up by one below.
          peers[Int(source)].silence = -1
        }
        for peer in peers.indices where peer != rank {
          peers[peer].silence += 1
          var isSent: Int32 = 1
          _ = MPI_Test(&peers[peer].alive, &isSent, qk_mpi_ignore_status())
          // One that does not take them gets no more.
          if isSent != 0 {
            _ = MPI_Isend(
              aliveByte, 1, qk_mpi_byte(), Int32(peer), Self.aliveTag, communicator,
              &peers[peer].alive)
          }
        }
        reap()
      }
    }

    /// Waits until `done`, which is called again and again under the lock, while ranks that are
    /// `awaited` live.
    ///
    /// - Throws: `QuantError`: what `done` throws; `.unsupported` when an awaited rank has been
    ///   silent for too long.
    func wait(
      for awaited: (Int) -> Bool, until done: () throws(QuantError) -> Bool
    ) throws(QuantError) {
      let start = MonotonicClock.nanoseconds()
      while true {
        let isDone = try monitor.locked { () throws(QuantError) in
          if try done() { return true }
          for peer in peers.indices where peer != rank && peers[peer].silence > silenceLimit {
            guard awaited(peer) else { continue }
            throw QuantError(
              .unsupported, "rank \(peer)",
              "has said nothing for \(peers[peer].silence) seconds",
              remedy: "look whether its process and its machine still run, and start all anew")
          }
          return false
        }
        if isDone { return }
        let waited = MonotonicClock.nanoseconds() &- start
        if waited < eagerNanoseconds {
          sched_yield()
        } else {
          // A wait is an eighth longer than it must be at most, and costs next to nothing when long.
          var pause = timespec(
            tv_sec: 0, tv_nsec: Int(min(max(waited / 8, 20_000), 1_000_000)))
          nanosleep(&pause, nil)
        }
      }
    }

    // MARK: Control messages

    /// Sends a message with a payload behind it, which is copied.
    func post(
      _ message: [UInt8],
      payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
      to peer: Int
    ) throws(QuantError) {
      let count = message.count + payload.count
      let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64)
      message.withUnsafeBytes {
        if let from = $0.baseAddress { bytes.copyMemory(from: from, byteCount: $0.count) }
      }
      if let from = payload.baseAddress {
        (bytes + message.count).copyMemory(from: from, byteCount: payload.count)
      }
      try monitor.locked { () throws(QuantError) in
        reap()
        var one = Posted(request: qk_mpi_no_request(), bytes: bytes)
        do throws(QuantError) {
          try Self.check(
            MPI_Isend(
              bytes, Int32(count), qk_mpi_byte(), Int32(peer), Self.controlTag, communicator,
              &one.request), "MPI_Isend")
        } catch {
          bytes.deallocate()
          throw error
        }
        posted.append(one)
      }
    }

    /// Frees the memory of what has been sent. Under the lock.
    private func reap() {
      posted.removeAll { one in
        var (request, isDone) = (one.request, Int32(0))
        guard MPI_Test(&request, &isDone, qk_mpi_ignore_status()) == 0, isDone != 0 else {
          return false
        }
        one.bytes.deallocate()
        return true
      }
    }

    /// The next message of a rank, if it has come; its payload lies in ``bytes(of:)`` until the next
    /// one is taken. Only inside ``wait(for:until:)``.
    func take(from peer: Int) throws(QuantError) -> ControlMessage? {
      if !peers[peer].isReceiving {
        var (found, count): (Int32, Int32) = (0, 0)
        var status = MPI_Status()
        try Self.check(
          MPI_Iprobe(Int32(peer), Self.controlTag, communicator, &found, &status), "MPI_Iprobe")
        if found == 0 { return nil }
        try Self.check(MPI_Get_count(&status, qk_mpi_byte(), &count), "MPI_Get_count")
        if peers[peer].bytes.count < Int(count) {
          peers[peer].bytes.deallocate()
          peers[peer].bytes = .allocate(byteCount: max(Int(count), 4096), alignment: 64)
        }
        try Self.check(
          MPI_Irecv(
            peers[peer].bytes.baseAddress, count, qk_mpi_byte(), Int32(peer), Self.controlTag,
            communicator, &peers[peer].request), "MPI_Irecv")
        peers[peer].length = Int(count)
        peers[peer].isReceiving = true
      }
      var isDone: Int32 = 0
      try Self.check(
        MPI_Test(&peers[peer].request, &isDone, qk_mpi_ignore_status()), "MPI_Test")
      if isDone == 0 { return nil }
      peers[peer].isReceiving = false
      peers[peer].silence = 0
      return try ControlMessage(bytes(of: peer), from: peer)
    }

    /// The message last taken from a rank.
    func bytes(of peer: Int) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(rebasing: peers[peer].bytes[..<peers[peer].length])
    }

    // MARK: Data

    /// Sends memory to ranks and fills memory from ranks; both know how much.
    ///
    /// - Throws: `QuantError` as ``wait(for:until:)``. What was under way is then left so, and MPI
    ///   must not be called again but to end all ranks: it might still write to the memory.
    func exchange(
      sending: (Int) -> UnsafeRawBufferPointer, receiving: (Int) -> UnsafeMutableRawBufferPointer
    ) throws(QuantError) {
      var requests: [MPI_Request?] = []
      try monitor.locked { () throws(QuantError) in
        for peer in peers.indices where peer != rank {
          let room = receiving(peer)
          try inPieces(room.count) { (start, count) throws(QuantError) in
            var request = qk_mpi_no_request()
            try Self.check(
              MPI_Irecv(
                room.baseAddress.map { $0 + start }, count, qk_mpi_byte(), Int32(peer),
                Self.dataTag, communicator, &request), "MPI_Irecv")
            requests.append(request)
          }
        }
        // Each rank begins with the next one, so that not all send to the same.
        for step in 1..<ranks {
          let peer = (rank + step) % ranks
          let values = sending(peer)
          try inPieces(values.count) { (start, count) throws(QuantError) in
            var request = qk_mpi_no_request()
            try Self.check(
              MPI_Isend(
                values.baseAddress.map { $0 + start }, count, qk_mpi_byte(), Int32(peer),
                Self.dataTag, communicator, &request), "MPI_Isend")
            requests.append(request)
          }
        }
      }
      if requests.isEmpty { return }
      try wait(
        for: { !receiving($0).isEmpty || !sending($0).isEmpty },
        until: { () throws(QuantError) in
          var isDone: Int32 = 0
          try Self.check(
            MPI_Testall(Int32(requests.count), &requests, &isDone, qk_mpi_ignore_statuses()),
            "MPI_Testall")
          return isDone != 0
        })
    }

    private func inPieces(
      _ count: Int, _ body: (_ start: Int, _ count: Int32) throws(QuantError) -> Void
    ) throws(QuantError) {
      for start in stride(from: 0, to: count, by: longestPiece) {
        try body(start, Int32(min(longestPiece, count - start)))
      }
    }
  }
#endif
