import CQuantKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Work cut into parts that may run in any order on any worker.
///
/// A value of such a type runs without any allocation, which a closure cannot promise: handing a
/// closure to another thread boxes its captures.
public protocol ParallelTask {
  /// Does one part, as one of the pool's workers; parts run at the same time and in any order.
  func run(part: Int, worker: Int)
}

extension ParallelTask {
  /// Runs a part of the value at `address`, whose type is `Self`.
  fileprivate static func run(at address: UnsafeRawPointer, part: Int, worker: Int) {
    address.assumingMemoryBound(to: Self.self).pointee.run(part: part, worker: worker)
  }
}

/// A fixed team of threads that runs the parts of one piece of work and returns when all are done.
///
/// The caller is worker 0, so `threads` workers need `threads - 1` helper threads. Inside
/// ``withHotRegion(_:)`` helpers spin between calls (a fork and join costs under a microsecond,
/// against 25–65 µs of a dispatch queue); outside they park on a condition variable. Parts are
/// handed out by an atomic counter, so a part must not depend on the worker that runs it: with
/// kernels that give each output one owner, results are the same bits for every thread count.
///
/// One caller at a time: a call from a second thread waits for the first.
public final class WorkerPool: Sendable {
  /// Does one part, as one of the pool's workers.
  public typealias Part = (_ part: Int, _ worker: Int) -> Void

  /// Workers, the caller included.
  public let threads: Int

  private let shared: Shared

  /// As many workers as there are online processors.
  public static let standard = WorkerPool(threads: WorkerPool.processorCount)

  /// Online processors, at least 1.
  public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Processors that this process may run on; fewer than there are where it was bound to some, as
  /// `taskset` and MPI's launchers do.
  public static var usableProcessorCount: Int {
    let usable = Int(qk_usable_processors())
    return usable > 0 ? min(usable, processorCount) : processorCount
  }

  /// - Parameter threads: workers, the caller included; values below 1 count as 1, above 256 as
  ///   256.
  public init(threads: Int) {
    self.threads = min(max(threads, 1), 256)
    // Never more spinners than processors: an oversubscribed spinner takes the time slice of the
    // thread it waits for.
    shared = Shared(
      helpers: self.threads - 1, maySpin: self.threads <= WorkerPool.processorCount)
    for worker in 1..<max(self.threads, 1) { startHelper(shared: shared, worker: worker) }
  }

  deinit { shared.stop() }

  /// Runs every part in `0..<parts` of a task and returns when all have finished. Allocates
  /// nothing.
  public func run<Task: ParallelTask>(parts: Int, _ task: Task) {
    if parts <= 0 { return }
    if threads == 1 || parts == 1 {
      for part in 0..<parts { task.run(part: part, worker: 0) }
      return
    }
    withUnsafePointer(to: task) {
      shared.run(parts: parts, Shared.Job(address: UnsafeRawPointer($0), type: Task.self))
    }
  }

  /// Runs `body(part, worker)` for every part in `0..<parts` and returns when all have finished.
  /// Allocates once, for the closure; in a decode step use a ``ParallelTask``.
  public func run(parts: Int, _ body: Part) {
    if parts <= 0 { return }
    if threads == 1 || parts == 1 {
      for part in 0..<parts { body(part, 0) }
      return
    }
    withoutActuallyEscaping(body) { run(parts: parts, ClosureTask(body: $0)) }
  }

  private struct ClosureTask: ParallelTask {
    let body: Part
    func run(part: Int, worker: Int) { body(part, worker) }
  }

  /// Helpers spin for work while `body` runs, and park afterwards. Regions may nest.
  ///
  /// - Throws: what `body` throws.
  public func withHotRegion<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    shared.enterHot()
    defer { shared.leaveHot() }
    return try body()
  }

  fileprivate final class Shared: @unchecked Sendable {
    private let helpers: Int
    private let maySpin: Bool
    private let epoch = Atomic<Int>(0)
    private let nextPart = Atomic<Int>(0)
    /// Who may enter the job, and who is inside: generation · 2¹⁷ + open · 2¹⁶ + helpers inside.
    /// The generation keeps a helper that looked at one job from entering the next unseen.
    private let gate = Atomic<Int>(0)
    private let hot = Atomic<Int>(0)
    private let parked = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    // Written by the caller while the gate is shut and nobody is inside, read by helpers that have
    // entered.
    private var job: Job?
    private var parts = 0

    struct Job {
      let address: UnsafeRawPointer
      let type: any ParallelTask.Type
    }

    private let caller: UnsafeMutablePointer<pthread_mutex_t>
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    init(helpers: Int, maySpin: Bool) {
      self.helpers = helpers
      self.maySpin = maySpin
      caller = .allocate(capacity: 1)
      mutex = .allocate(capacity: 1)
      condition = .allocate(capacity: 1)
      pthread_mutex_init(caller, nil)
      pthread_mutex_init(mutex, nil)
      pthread_cond_init(condition, nil)
    }

    deinit {
      pthread_cond_destroy(condition)
      pthread_mutex_destroy(mutex)
      pthread_mutex_destroy(caller)
      condition.deallocate()
      mutex.deallocate()
      caller.deallocate()
    }

    func run(parts: Int, _ job: Job) {
      pthread_mutex_lock(caller)
      self.job = job
      self.parts = parts
      nextPart.store(0, ordering: .relaxed)
      gate.store(
        (gate.load(ordering: .relaxed) | Self.inside | Self.open) &+ 1 | Self.open,
        ordering: .releasing)
      epoch.add(1, ordering: .sequentiallyConsistent)
      if parked.load(ordering: .sequentiallyConsistent) > 0 {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
      }
      work(job, parts, worker: 0)
      // Only helpers that have entered are waited for: one that the system has not run yet, on a
      // machine with more work than processors, would cost a time slice.
      gate.bitwiseAnd(~Self.open, ordering: .acquiringAndReleasing)
      var spins = 0
      while gate.load(ordering: .acquiring) & Self.inside > 0 {
        spins += 1
        relax(spins)
      }
      self.job = nil
      pthread_mutex_unlock(caller)
    }

    private func work(_ job: Job, _ parts: Int, worker: Int) {
      while true {
        let part = nextPart.add(1, ordering: .relaxed).oldValue
        if part >= parts { return }
        job.type.run(at: job.address, part: part, worker: worker)
      }
    }

    func enterHot() {
      guard maySpin, helpers > 0 else { return }
      hot.add(1, ordering: .sequentiallyConsistent)
      // Wake the helpers now, so that they already spin when the first work comes.
      if parked.load(ordering: .sequentiallyConsistent) > 0 {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
      }
    }

    func leaveHot() {
      guard maySpin, helpers > 0 else { return }
      hot.subtract(1, ordering: .sequentiallyConsistent)
    }

    func stop() {
      stopping.store(true, ordering: .sequentiallyConsistent)
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }

    func helperLoop(worker: Int) {
      var seen = 0
      while waitForWork(after: seen) {
        seen = epoch.load(ordering: .acquiring)
        guard enter() else { continue }
        if let job { work(job, parts, worker: worker) }
        gate.subtract(1, ordering: .releasing)
      }
    }

    private static let open = 1 << 16
    private static let inside = open - 1

    /// Counts a helper in; false when the caller has finished without it.
    private func enter() -> Bool {
      var state = gate.load(ordering: .acquiring)
      while state & Self.open != 0 {
        let result = gate.weakCompareExchange(
          expected: state, desired: state + 1, successOrdering: .acquiringAndReleasing,
          failureOrdering: .acquiring)
        if result.exchanged { return true }
        state = result.original
      }
      return false
    }

    /// Returns true when the epoch has moved past `seen`, false when the pool stops.
    private func waitForWork(after seen: Int) -> Bool {
      while true {
        var spins = 0
        while hot.load(ordering: .relaxed) > 0 {
          if epoch.load(ordering: .acquiring) != seen { return true }
          if stopping.load(ordering: .relaxed) { return false }
          spins += 1
          relax(spins)
        }
        pthread_mutex_lock(mutex)
        parked.add(1, ordering: .sequentiallyConsistent)
        while epoch.load(ordering: .sequentiallyConsistent) == seen,
          hot.load(ordering: .sequentiallyConsistent) == 0,
          !stopping.load(ordering: .sequentiallyConsistent)
        {
          pthread_cond_wait(condition, mutex)
        }
        parked.subtract(1, ordering: .sequentiallyConsistent)
        pthread_mutex_unlock(mutex)
        if epoch.load(ordering: .acquiring) != seen { return true }
        if stopping.load(ordering: .relaxed) { return false }
      }
    }
  }
}

/// One step of a wait: a pause, and after about a millisecond of pauses the time slice is offered
/// to others, since whoever is awaited may need it.
@inline(__always)
private func relax(_ spins: Int) {
  if spins > 20_000 { sched_yield() } else { _spinHint() }
}

#if arch(x86_64) || arch(arm64)
  import CQuantKernels
  @inline(__always) private func _spinHint() { qk_spin_hint() }
#else
  @inline(__always) private func _spinHint() {}
#endif

private final class HelperStart {
  let shared: WorkerPool.Shared
  let worker: Int
  init(shared: WorkerPool.Shared, worker: Int) {
    self.shared = shared
    self.worker = worker
  }
}

/// A helper that cannot be created would leave `running` waiting, so its share of the bookkeeping
/// must exist: creation is retried until the system gives the thread.
private func startHelper(shared: WorkerPool.Shared, worker: Int) {
  let start = Unmanaged.passRetained(HelperStart(shared: shared, worker: worker))
  #if canImport(Darwin)
    var thread: pthread_t?
  #else
    var thread = pthread_t()
  #endif
  while pthread_create(
    &thread, nil,
    { argument in
      #if canImport(Darwin)
        let start = Unmanaged<HelperStart>.fromOpaque(argument).takeRetainedValue()
      #else
        guard let argument else { return nil }
        let start = Unmanaged<HelperStart>.fromOpaque(argument).takeRetainedValue()
      #endif
      start.shared.helperLoop(worker: start.worker)
      return nil
    }, start.toOpaque()) != 0
  {
    usleep(1000)
  }
  #if canImport(Darwin)
    if let thread { pthread_detach(thread) }
  #else
    pthread_detach(thread)
  #endif
}
