import CTestSupport
import LanguageModel
import QuantKernels
import XCTest

/// DESIGN: no allocation in a decode step after warm-up. XCTest runs one test at a time, so what is
/// counted is ours.
final class DecoderAllocationTests: XCTestCase {
  func testTheCounterCounts() throws {
    try XCTSkipUnless(allocation_count_available() == 1, "no counting allocator here")
    allocation_count_begin()
    let array = [Int](unsafeUninitializedCapacity: 1000) { $1 = $0.count }
    let found = allocation_count_end()
    XCTAssertEqual(array.count, 1000)
    XCTAssertGreaterThanOrEqual(found, 1)
  }

  func testDecodeStepsAllocateNothing() throws {
    try XCTSkipUnless(allocation_count_available() == 1, "no counting allocator here")
    for model in ModelCase.architectures {
      for threads in [1, 2] {
        let loaded = try model.load(threads: threads, arithmetic: .fast, keyValueType: .f16)
        let session = try loaded.makeSession()
        var options = Sampler.Options()
        options.temperature = 0.8
        options.repetitionPenalty = 1.1
        let sampler = try Sampler(options: options)
        try session.forward(model.tokens(5))
        var token = try sampler.sample(session.logits)
        // Token 1 warms up; 2…50 are counted.
        try session.forward(token: token)
        token = try sampler.sample(session.logits)
        allocation_count_begin()
        for _ in 2...50 {
          try session.forward(token: token)
          token = try sampler.sample(session.logits)
        }
        let found = allocation_count_end()
        XCTAssertEqual(found, 0, "\(model.name), \(threads) threads")
      }
    }
  }
}
