import QuantKernels
import XCTest

final class AttentionCacheTests: XCTestCase {
  private func assertThrows(
    _ code: QuantError.Code, line: UInt = #line, _ body: () throws -> Void
  ) {
    XCTAssertThrowsError(try body(), line: line) {
      XCTAssertEqual(($0 as? QuantError)?.code, code, "\($0)", line: line)
    }
  }

  func testAppendBeyondCapacityIsAnError() throws {
    let cache = try KeyValueCache(
      type: .f16, keyValueHeads: 2, headDimension: 8, capacity: 3)
    let floats = [Float](repeating: 1, count: 64)
    try cache.append(keys: floats, values: floats, count: 2)
    assertThrows(.invalidArgument) { try cache.append(keys: floats, values: floats, count: 2) }
    assertThrows(.invalidArgument) { try cache.append(keys: floats, values: floats, count: -1) }
    assertThrows(.invalidArgument) {
      try cache.append(keys: floats, values: floats, count: .max)
    }
    XCTAssertEqual(cache.count, 2)
    try cache.append(keys: floats, values: floats, count: 1)
    XCTAssertEqual(cache.count, 3)
  }

  func testBuffersMustBeWholePositions() throws {
    let cache = try KeyValueCache(type: .f32, keyValueHeads: 2, headDimension: 8, capacity: 3)
    let floats = [Float](repeating: 1, count: 32)
    floats.withUnsafeBufferPointer { floats in
      assertThrows(.invalidArgument) {
        try cache.append(keys: .init(rebasing: floats[..<31]), values: floats)
      }
      assertThrows(.invalidArgument) {
        try cache.append(
          keys: .init(rebasing: floats[..<31]), values: .init(rebasing: floats[..<31]))
      }
    }
    XCTAssertEqual(cache.count, 0)
  }

  func testOnlyFiniteNumbersComeIn() throws {
    let good = [Float](repeating: 1, count: 40)
    let tooLarge: [KeyValueType: [Float]] = [
      .f16: [65520, -65520], .bf16: [0x1.FFp127], .q8_0: [-65520 * 127], .q4_0: [65520 * 8],
    ]
    for type in KeyValueType.allCases {
      for bad in [Float.nan, .infinity, -.infinity] + (tooLarge[type] ?? []) {
        for index in [0, 15, 16, 39] {
          let cache = try KeyValueCache(
            type: type, keyValueHeads: 1, headDimension: 40, capacity: 1)
          var poisoned = good
          poisoned[index] = bad
          assertThrows(.invalidData) { try cache.append(keys: poisoned, values: good, count: 1) }
          assertThrows(.invalidData) { try cache.append(keys: good, values: poisoned, count: 1) }
          XCTAssertEqual(cache.count, 0)
        }
      }
    }
    let cache = try KeyValueCache(type: .f16, keyValueHeads: 1, headDimension: 40, capacity: 1)
    let largest = [Float](repeating: 65519.99, count: 40)
    try cache.append(keys: largest, values: largest, count: 1)
  }

  func testImpossibleSizesAreErrors() {
    let sizes = [
      (0, 8, 8), (1, 0, 8), (1, 8, 0), (-1, 8, 8), (1, 65537, 8), (1, -8, 8), (1, 8, -1),
    ]
    for (heads, dimension, capacity) in sizes {
      assertThrows(.invalidArgument) {
        _ = try KeyValueCache(
          type: .f32, keyValueHeads: heads, headDimension: dimension, capacity: capacity)
      }
    }
    for (heads, dimension, capacity) in [(1, 8, Int.max), (Int.max, 1, 1), (1 << 30, 64, 1 << 30)] {
      assertThrows(.outOfMemory) {
        _ = try KeyValueCache(
          type: .f32, keyValueHeads: heads, headDimension: dimension, capacity: capacity)
      }
    }
  }

  func testSizesAndTruncation() throws {
    let cache = try KeyValueCache(type: .f16, keyValueHeads: 3, headDimension: 64, capacity: 100)
    // Blocks of 16: 112 positions of 3 heads of 64 keys and 64 values of 2 bytes.
    XCTAssertEqual(cache.byteCount, 112 * 3 * 128 * 2)
    XCTAssertEqual(cache.bytesPerPosition, 3 * 128 * 2)
    let floats = [Float](repeating: 1, count: 10 * 192)
    try cache.append(keys: floats, values: floats, count: 10)
    cache.truncate(to: 20)
    XCTAssertEqual(cache.count, 10)
    cache.truncate(to: 4)
    XCTAssertEqual(cache.count, 4)
    cache.truncate(to: -1)
    XCTAssertEqual(cache.count, 0)
  }
}
