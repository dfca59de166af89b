import Synchronization
import Testing

@testable import QuantKernels

@Suite struct WorkerPoolTests {
  /// Every part runs once, whatever the number of threads, hot or not; plain stores of parts are
  /// seen by the caller afterwards, which the thread sanitizer checks.
  @Test(arguments: [1, 2, 3, 8], [false, true])
  func everyPartRunsOnce(threads: Int, isHot: Bool) {
    let pool = WorkerPool(threads: threads)
    func rounds() {
      for parts in [0, 1, 2, 3, 17, 1000] + Array(repeating: 5, count: 50) {
        var counts = [Int](repeating: 0, count: parts)
        counts.withUnsafeMutableBufferPointer { counts in
          nonisolated(unsafe) let counts = counts
          pool.run(parts: parts) { part, worker in
            #expect((0..<threads).contains(worker))
            counts[part] += 1
          }
        }
        #expect(counts.allSatisfy { $0 == 1 })
      }
    }
    if isHot { pool.withHotRegion { pool.withHotRegion { rounds() } } } else { rounds() }
  }

  /// Calls from several threads run one after another.
  @Test func callersTakeTurns() {
    let pool = WorkerPool(threads: 2)
    let inside = Atomic<Int>(0)
    let total = Atomic<Int>(0)
    let callers = WorkerPool(threads: 4)
    callers.run(parts: 4) { _, _ in
      for _ in 0..<50 {
        pool.run(parts: 2) { part, _ in
          // The first of a call's parts may overlap the second only.
          #expect(inside.add(1, ordering: .acquiringAndReleasing).newValue <= 2)
          total.add(1, ordering: .relaxed)
          inside.subtract(1, ordering: .acquiringAndReleasing)
        }
      }
    }
    #expect(total.load(ordering: .relaxed) == 400)
  }

  /// Pools come and go, with helpers parked, at work, or not yet started.
  @Test func poolsEnd() {
    for round in 0..<200 {
      let pool = WorkerPool(threads: 1 + round % 4)
      if round % 3 == 0 { continue }
      let sum = Atomic<Int>(0)
      pool.withHotRegion {
        pool.run(parts: 8) { part, _ in sum.add(part, ordering: .relaxed) }
      }
      #expect(sum.load(ordering: .relaxed) == 28)
    }
  }
}
