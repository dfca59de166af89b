import LanguageModel
import QuantKernels
import TestSupport
import XCTest

final class GGUFWriterTests: XCTestCase {
  private func assertRefused(
    line: UInt = #line, _ body: (inout GGUFWriter) throws(QuantError) -> Void
  ) {
    var writer = GGUFWriter()
    XCTAssertThrowsError(try body(&writer), line: line) {
      XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument, line: line)
    }
  }

  func testWritesWhatTheOfficialPackageWrites() throws {
    // The official writer puts the same keys and tensors at the same bytes.
    let bytes = try XCTUnwrap(fixture("Files/official-gguf.bin"))
    let official = try GGUFFile(bytes: bytes, name: "official-gguf.bin")
    var writer = GGUFWriter()
    for key in official.metadata.keys {
      try writer.set(key, try XCTUnwrap(official.metadata.value(key)))
    }
    for tensor in official.tensors {
      try writer.addTensor(
        tensor.name, type: try XCTUnwrap(tensor.type), dimensions: tensor.dimensions,
        bytes: official.withBytes(of: tensor) { Array($0) })
    }
    XCTAssertEqual(try writer.serialized(), bytes)
  }

  func testACopyOfAFileIsTheSameFile() throws {
    let bytes = try SyntheticFiles.writer().serialized()
    let source = try GGUFFile(bytes: bytes, name: "image")
    var writer = GGUFWriter()
    writer.copyMetadata(from: source.metadata)
    for tensor in source.tensors { try writer.addTensor(copying: tensor, from: source) }
    XCTAssertEqual(try writer.serialized(), bytes)
  }

  func testCopiedMetadataMayBeLeftOutAndReplaced() throws {
    let source = try GGUFFile(bytes: SyntheticFiles.smallGGUF(), name: "image")
    var writer = GGUFWriter()
    writer.copyMetadata(from: source.metadata, except: ["tokens", "scores"])
    try writer.set("t.u8", .text("now text"))
    let keys = SyntheticFiles.metadata.map { $0.key }.filter { $0 != "tokens" && $0 != "scores" }
    let copy = try GGUFFile(bytes: writer.serialized(), name: "copy").metadata
    XCTAssertEqual(copy.keys, keys)
    XCTAssertEqual(copy.string("t.u8"), "now text")
    XCTAssertEqual(copy.value("nested"), source.metadata.value("nested"))
  }

  func testTheAlignmentIsTheWritersOwn() throws {
    var wide = try GGUFWriter(alignment: 256)
    for name in ["a", "b"] {
      try wide.addTensor(name, type: .f32, dimensions: [1], bytes: [1, 2, 3, 4])
    }
    let file = try GGUFFile(bytes: wide.serialized(), name: "wide")
    XCTAssertEqual(file.alignment, 256)
    XCTAssertEqual(file.tensors.map { $0.offset % 256 }, [0, 0])
    // A copy goes back to 32 and does not carry the key along.
    var writer = GGUFWriter()
    writer.copyMetadata(from: file.metadata)
    for tensor in file.tensors { try writer.addTensor(copying: tensor, from: file) }
    let copy = try GGUFFile(bytes: writer.serialized(), name: "copy")
    XCTAssertEqual(copy.alignment, 32)
    XCTAssertEqual(copy.metadata.keys, [])
    XCTAssertEqual(
      copy.tensors.map { copy.withBytes(of: $0) { Array($0) } }, [[1, 2, 3, 4], [1, 2, 3, 4]])
    for alignment in [0, -32, 4, 48, 1 << 21] {
      XCTAssertThrowsError(try GGUFWriter(alignment: alignment))
    }
  }

  func testProgressReachesTheWhole() throws {
    let folder = TemporaryFolder()
    var steps: [Int] = []
    var total = 0
    try SyntheticFiles.writer().write(
      to: folder.file("a"),
      progress: { written, all in
        steps.append(written)
        total = all
      })
    XCTAssertEqual(steps.count, SyntheticFiles.tensors.count)
    XCTAssertEqual(steps, steps.sorted())
    XCTAssertEqual(steps.last, total)
    XCTAssertEqual(readFile(folder.file("a"))?.count, total)
  }

  func testAFailureMidwayLeavesTheOldFile() throws {
    let folder = TemporaryFolder()
    let path = folder.write([1, 2, 3], "a")
    let failure = QuantError(.invalidData, "source", "is not finite", remedy: "look at it")
    var writer = GGUFWriter()
    try writer.addTensor("a", type: .f32, dimensions: [1 << 20]) { sink throws(QuantError) in
      try sink.write([UInt8](repeating: 0, count: 4 << 20))
    }
    try writer.addTensor("b", type: .f32, dimensions: [1]) { _ throws(QuantError) in throw failure }
    XCTAssertThrowsError(try writer.write(to: path)) { XCTAssertEqual($0 as? QuantError, failure) }
    XCTAssertThrowsError(try writer.write(to: path, isCancelled: { true })) {
      XCTAssertEqual(($0 as? QuantError)?.code, .cancelled)
    }
    XCTAssertEqual(folder.names, ["a"])
    XCTAssertEqual(readFile(path), [1, 2, 3])
  }

  func testTooFewOrTooManyBytesAreRefused() throws {
    for count in [0, 3, 5, 40] {
      var writer = GGUFWriter()
      try writer.addTensor("a", type: .f32, dimensions: [1]) { sink throws(QuantError) in
        try sink.write([UInt8](repeating: 0, count: count))
      }
      XCTAssertThrowsError(try writer.serialized()) {
        XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument)
      }
      assertRefused { writer throws(QuantError) in
        try writer.addTensor(
          "a", type: .f32, dimensions: [1], bytes: [UInt8](repeating: 0, count: count))
      }
    }
  }

  func testWrongArgumentsAreRefused() {
    assertRefused { writer throws(QuantError) in try writer.set("general.alignment", .uint32(64)) }
    assertRefused { writer throws(QuantError) in
      try writer.set(String(repeating: "k", count: 65_536), .uint8(1))
    }
    assertRefused { writer throws(QuantError) in
      try writer.set("k", .array(.uint8, [.uint8(1), .int8(1)]))
    }
    assertRefused { writer throws(QuantError) in
      var value = GGUFValue.array(.uint8, [])
      for _ in 0..<4 { value = .array(.array, [value]) }
      try writer.set("k", value)
    }
    let wrong: [(String, GGMLType, [Int])] = [
      ("", .f32, [1]), (String(repeating: "n", count: 64), .f32, [1]), ("a", .f32, []),
      ("a", .f32, [1, 1, 1, 1, 1]), ("a", .f32, [0]), ("a", .f32, [-4]), ("a", .q4_0, [33]),
      ("a", .f32, [Int.max, 2]), ("a", .f32, [1 << 32, 1 << 32]),
    ]
    for (name, type, dimensions) in wrong {
      assertRefused { writer throws(QuantError) in
        try writer.addTensor(name, type: type, dimensions: dimensions) { _ throws(QuantError) in }
      }
    }
    assertRefused { writer throws(QuantError) in
      for _ in 0..<2 {
        try writer.addTensor("a", type: .f16, dimensions: [1], bytes: [0, 0])
      }
    }
    assertRefused { writer throws(QuantError) in
      for name in ["a", "b", "c"] {
        try writer.addTensor(name, type: .f32, dimensions: [1 << 60]) { _ throws(QuantError) in }
      }
      _ = try writer.serialized()
    }
  }
}
