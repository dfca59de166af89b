import LanguageModel
import QuantKernels
import TestSupport
import XCTest

final class GGUFFileTests: XCTestCase {
  /// Asserts that the bytes are refused with that code, in one line that holds `words`.
  private func assertRefused(
    _ raw: RawGGUF, _ words: String, code: QuantError.Code = .invalidData, line: UInt = #line
  ) {
    assertRefused(raw.bytes, words, code: code, line: line)
  }

  private func assertRefused(
    _ bytes: [UInt8], _ words: String, code: QuantError.Code = .invalidData, line: UInt = #line
  ) {
    XCTAssertThrowsError(try GGUFFile(bytes: bytes, name: "image"), line: line) { error in
      guard let error = error as? QuantError else { return XCTFail("\(error)", line: line) }
      XCTAssertEqual(error.code, code, error.description, line: line)
      XCTAssertTrue(error.description.contains(words), error.description, line: line)
      XCTAssertEqual(error.subject, "image", line: line)
      XCTAssertFalse(error.description.contains("\n"), line: line)
    }
  }

  func testEveryMetadataTypeComesBack() throws {
    let file = try GGUFFile(bytes: SyntheticFiles.writer().serialized(), name: "image")
    let metadata = file.metadata
    XCTAssertEqual(metadata.keys, SyntheticFiles.metadata.map { $0.key })
    for (key, value) in SyntheticFiles.metadata {
      XCTAssertEqual(metadata.value(key), value, key)
      XCTAssertEqual(metadata.type(of: key), value.type, key)
    }
    XCTAssertEqual(metadata.string("general.architecture"), "llama")
    XCTAssertEqual(metadata.stringBytes(of: "t.bytes"), [0xff, 0, 0x0a, 0xc3])
    XCTAssertEqual(metadata.string("t.bytes"), "\u{fffd}\0\n\u{fffd}")
    XCTAssertEqual(metadata.integer("t.u8"), 200)
    XCTAssertEqual(metadata.integer("t.i64"), -1 << 62)
    XCTAssertNil(metadata.integer("t.u64"), "2⁶³ + 2 does not fit Int")
    XCTAssertEqual(metadata.float("t.u64"), 0x1p63)
    XCTAssertEqual(metadata.float("t.f32"), 1.5)
    XCTAssertEqual(metadata.float("t.f64"), 0.1)
    XCTAssertEqual(metadata.float("t.i16"), -30_000)
    XCTAssertEqual(metadata.bool("t.yes"), true)
    XCTAssertEqual(metadata.bool("t.no"), false)
    XCTAssertEqual(metadata.stringBytes("tokens"), [[0x61], [], [0xc4, 0xa0, 0xff]])
    XCTAssertEqual(metadata.floats("scores"), [0.5, -1.25])
    XCTAssertEqual(metadata.floats("types"), [1, -3, 6])
    XCTAssertEqual(metadata.integers("types"), [1, -3, 6])
    XCTAssertEqual(metadata.integers("bytes"), [7, 255])
    XCTAssertEqual(metadata.integers("wide"), [1, Int.max])
    XCTAssertEqual(metadata.bools("flags"), [true, false])
    XCTAssertEqual(metadata.floats("none"), [])
    XCTAssertEqual(metadata.count(of: "tokens"), 3)
    XCTAssertEqual(metadata.elementType(of: "nested"), .array)
    XCTAssertEqual(metadata.value("types", limit: 2), .array(.int32, [.int32(1), .int32(-3)]))
    XCTAssertEqual(
      metadata.value("nested", limit: 1),
      .array(.array, [.array(.int16, [.int16(1)])]))
  }

  func testAnotherTypeOrAnAbsentKeyGivesNil() throws {
    let metadata = try GGUFFile(bytes: SyntheticFiles.smallGGUF(), name: "image").metadata
    for (key, value) in SyntheticFiles.metadata + [("absent", .uint8(0)), ("", .uint8(0))] {
      if value.type != .string || key == "absent" { XCTAssertNil(metadata.string(key), key) }
      if value.type != .bool { XCTAssertNil(metadata.bool(key), key) }
      if value.type != .array {
        XCTAssertNil(metadata.integers(key), key)
        XCTAssertNil(metadata.stringBytes(key), key)
        XCTAssertNil(metadata.count(of: key), key)
      } else {
        XCTAssertNil(metadata.integer(key), key)
        XCTAssertNil(metadata.float(key), key)
      }
    }
    XCTAssertNil(metadata.integers("scores"))
    XCTAssertNil(metadata.integers("flags"))
    XCTAssertNil(metadata.stringBytes("types"))
    XCTAssertNil(metadata.floats("tokens"))
    XCTAssertNil(metadata.floats("nested"))
    XCTAssertNil(metadata.value("absent"))
  }

  func testTensorsComeBackByNameAndInOrder() throws {
    let folder = TemporaryFolder()
    try SyntheticFiles.writer().write(to: folder.file("a.gguf"))
    let file = try GGUFFile(path: folder.file("a.gguf"))
    XCTAssertEqual(file.version, 3)
    XCTAssertEqual(file.alignment, 32)
    XCTAssertEqual(file.tensors.map(\.name), SyntheticFiles.tensors.map { $0.name })
    for wanted in SyntheticFiles.tensors {
      let tensor = try XCTUnwrap(file.tensor(named: wanted.name))
      XCTAssertEqual(tensor.type, wanted.type)
      XCTAssertEqual(tensor.typeName, wanted.type.name)
      XCTAssertEqual(tensor.dimensions, wanted.dimensions)
      XCTAssertEqual(tensor.columns, wanted.dimensions[0])
      XCTAssertEqual(tensor.rows, wanted.dimensions.dropFirst().reduce(1, *))
      XCTAssertEqual(tensor.elementCount, wanted.dimensions.reduce(1, *))
      XCTAssertEqual(tensor.byteCount, wanted.bytes.count)
      let bytes = file.bytes(of: tensor)
      XCTAssertEqual(Array(bytes), wanted.bytes)
      XCTAssertEqual(Int(bitPattern: bytes.baseAddress) % 32, 0)
    }
    XCTAssertNil(file.tensor(named: "blk"))
    XCTAssertNil(file.tensor(named: ""))
  }

  func testReadsVersion2AndAnAlignmentOfItsOwn() throws {
    var raw = RawGGUF()
    raw.version = 2
    raw.alignment = 128
    raw.add("general.alignment", type: 4, RawGGUF.number(UInt32(128)))
    raw.addTensor(Array("a".utf8), [3], type: 0, offset: 0)
    raw.addTensor(Array("b".utf8), [], type: 0, offset: 128)
    raw.data = [UInt8](0..<132)
    let file = try GGUFFile(bytes: raw.bytes, name: "image")
    XCTAssertEqual(file.version, 2)
    XCTAssertEqual(file.alignment, 128)
    XCTAssertEqual(file.dataOffset % 128, 0)
    let scalar = try XCTUnwrap(file.tensor(named: "b"))
    XCTAssertEqual(scalar.dimensions, [])
    XCTAssertEqual(scalar.elementCount, 1)
    XCTAssertEqual(file.withBytes(of: scalar) { Array($0) }, [128, 129, 130, 131])
  }

  func testReadsTensorsOutOfOrderAndWithGaps() throws {
    var raw = RawGGUF()
    raw.addTensor(Array("late".utf8), [1], type: 0, offset: 96)
    raw.addTensor(Array("early".utf8), [16], type: 0, offset: 0)
    raw.data = [UInt8](0..<100)
    let file = try GGUFFile(bytes: raw.bytes, name: "image")
    XCTAssertEqual(file.tensors.map { file.bytes(of: $0)[0] }, [96, 0])
  }

  func testListsTypesThatAreNotComputedWith() throws {
    var raw = RawGGUF()
    raw.addTensor(Array("x".utf8), [256], type: 23, offset: 0)
    raw.data = [UInt8](repeating: 1, count: 136)
    let tensor = try XCTUnwrap(GGUFFile(bytes: raw.bytes, name: "image").tensor(named: "x"))
    XCTAssertNil(tensor.type)
    XCTAssertEqual(tensor.typeName, "IQ4_XS")
    XCTAssertEqual(tensor.byteCount, 136)
  }

  func testNamesAreToldApartByTheirBytes() throws {
    // The same text to Swift's String: é as one scalar and as two.
    let spellings = ["\u{e9}", "e\u{301}"]
    var writer = GGUFWriter()
    for (index, name) in spellings.enumerated() {
      try writer.set(name, .uint8(UInt8(index)))
      try writer.addTensor(name, type: .f16, dimensions: [1], bytes: [UInt8(index), 0])
    }
    let file = try GGUFFile(bytes: writer.serialized(), name: "image")
    for (index, name) in spellings.enumerated() {
      XCTAssertEqual(file.metadata.integer(name), index)
      let tensor = try XCTUnwrap(file.tensor(named: name))
      XCTAssertEqual(file.bytes(of: tensor)[0], UInt8(index))
    }
  }

  func testOtherFilesAreRefused() {
    assertRefused([], "not a GGUF file")
    assertRefused(Array("GGU".utf8), "not a GGUF file")
    assertRefused(Array("ggjt".utf8) + [3, 0, 0, 0], "not a GGUF file")
    assertRefused(Array("GGUF".utf8), "ends within the header")
    var raw = RawGGUF()
    raw.version = 1
    assertRefused(raw, "version 1", code: .unsupported)
    raw.version = 4
    assertRefused(raw, "version 4", code: .unsupported)
    raw.version = 0
    assertRefused(raw, "version 0", code: .unsupported)
    raw.version = 3 << 24
    assertRefused(raw, "big-endian", code: .unsupported)
  }

  func testAbsurdCountsAndLengthsAreRefused() {
    for count: UInt64 in [1 << 31, 1 << 60, 1 << 63, .max] {
      var raw = RawGGUF()
      raw.tensorCount = count
      assertRefused(raw, "more than its")
      raw = RawGGUF()
      raw.metadataCount = count
      assertRefused(raw, "more than its")
      raw = RawGGUF()
      raw.add("k", type: 8, RawGGUF.number(count) + [1, 2, 3])
      assertRefused(raw, "runs past the end")
      for elementType: UInt32 in [0, 4, 7, 8, 9, 12] {
        raw = RawGGUF()
        raw.add("k", type: 9, RawGGUF.number(elementType) + RawGGUF.number(count) + [0, 0])
        assertRefused(raw, "runs past the end")
      }
      raw = RawGGUF()
      raw.add(rawEntry: RawGGUF.number(count) + [UInt8](repeating: 0, count: 40))
      assertRefused(raw, "ends within metadata key 0")
      raw = RawGGUF()
      raw.addTensor([0x61], [count, count], type: 0, offset: 0)
      assertRefused(raw, "tensor 'a'")
      raw = RawGGUF()
      raw.addTensor([0x61], [4], type: 0, offset: count / 32 * 32)
      raw.data = [UInt8](repeating: 0, count: 64)
      assertRefused(raw, "run past the")
    }
  }

  func testWrongMetadataIsRefused() {
    var raw = RawGGUF()
    raw.add("k", type: 13, [])
    assertRefused(raw, "unknown type 13")
    raw = RawGGUF()
    raw.add("k", type: 9, RawGGUF.number(UInt32(99)) + RawGGUF.number(UInt64(0)))
    assertRefused(raw, "unknown type 99")
    raw = RawGGUF()
    raw.add("k", type: 7, [2])
    assertRefused(raw, "2 for a bool")
    raw = RawGGUF()
    raw.add("k", type: 9, RawGGUF.number(UInt32(7)) + RawGGUF.number(UInt64(2)) + [1, 255])
    assertRefused(raw, "255 for a bool")
    raw = RawGGUF()
    raw.add(rawEntry: RawGGUF.string([0xff]) + RawGGUF.number(UInt32(0)) + [0])
    assertRefused(raw, "no valid UTF-8")
    raw = RawGGUF()
    raw.add("twice", type: 0, [1])
    raw.add("other", type: 0, [1])
    raw.add("twice", type: 0, [1])
    assertRefused(raw, "'twice' appears twice")
    raw = RawGGUF()
    raw.add("line\nbreak'", type: 77, [])
    assertRefused(raw, "'line\\u{a}break\\''")
  }

  func testArraysMayNestFourDeepAndNoDeeper() throws {
    func nested(_ depth: Int) -> RawGGUF {
      var value: [UInt8] = RawGGUF.number(UInt32(0)) + RawGGUF.number(UInt64(1)) + [9]
      for _ in 1..<depth { value = RawGGUF.number(UInt32(9)) + RawGGUF.number(UInt64(1)) + value }
      var raw = RawGGUF()
      raw.add("k", type: 9, value)
      return raw
    }
    let file = try GGUFFile(bytes: nested(4).bytes, name: "image")
    XCTAssertEqual(
      file.metadata.value("k"),
      .array(.array, [.array(.array, [.array(.array, [.array(.uint8, [.uint8(9)])])])]))
    assertRefused(nested(5), "nested deeper")
    assertRefused(nested(3000), "nested deeper")
  }

  func testWrongAlignmentsAreRefused() {
    for alignment: UInt32 in [0, 1, 4, 24, 1 << 31, .max] {
      var raw = RawGGUF()
      raw.add("general.alignment", type: 4, RawGGUF.number(alignment))
      assertRefused(raw, "'general.alignment' is \(alignment)")
    }
    var raw = RawGGUF()
    raw.add("general.alignment", type: 10, RawGGUF.number(UInt64(32)))
    assertRefused(raw, "uint64")
    raw = RawGGUF()
    raw.add("general.alignment", type: 8, RawGGUF.string([0x33]))
    assertRefused(raw, "string")
  }

  func testWrongTensorsAreRefused() {
    func file(
      _ dimensions: [UInt64], type: UInt32 = 0, offset: UInt64 = 0, name: [UInt8] = [0x61],
      rank: UInt32? = nil
    ) -> RawGGUF {
      var raw = RawGGUF()
      raw.addTensor(name, dimensions, type: type, offset: offset, rank: rank)
      raw.data = [UInt8](repeating: 0, count: 64)
      return raw
    }
    assertRefused(file([0]), "dimension 0 is zero")
    assertRefused(file([4, 0]), "dimension 1 is zero")
    assertRefused(file([1, 1, 1, 1, 1]), "no whole description")
    assertRefused(file([1], rank: .max), "no whole description")
    assertRefused(file([17]), "run past the 64 bytes")
    assertRefused(file([8], offset: 64), "run past the 64 bytes")
    assertRefused(file([1], offset: 8), "no multiple of the alignment")
    assertRefused(file([31], type: 2), "block of 32")
    assertRefused(file([1 << 32, 1 << 31]), "overflows")
    assertRefused(file([1], type: 4), "unknown type 4", code: .unsupported)
    assertRefused(file([1], type: .max), "unknown type", code: .unsupported)
    assertRefused(file([1], name: [0xc3]), "no valid UTF-8")
    var raw = file([16])
    raw.addTensor([0x62], [1], type: 0, offset: 32)
    assertRefused(raw, "'a' and 'b' overlap")
    raw = RawGGUF()
    raw.addTensor([0x62], [1], type: 0, offset: 32)
    raw.addTensor([0x61], [9], type: 0, offset: 0)
    raw.data = [UInt8](repeating: 0, count: 64)
    assertRefused(raw, "'a' and 'b' overlap")
    raw = file([1])
    raw.addTensor([0x61], [1], type: 0, offset: 32)
    assertRefused(raw, "'a' appears twice")
  }

  func testTruncationAtEveryByteIsRefused() throws {
    let bytes = try SyntheticFiles.smallGGUF()
    let file = try GGUFFile(bytes: bytes, name: "image")
    let end = try XCTUnwrap(file.tensors.map { $0.offset + $0.byteCount }.max())
    for count in 0..<bytes.count {
      let prefix = Array(bytes[..<count])
      if count < end {
        XCTAssertThrowsError(try GGUFFile(bytes: prefix, name: "image"), "\(count)") {
          XCTAssertTrue($0 is QuantError)
        }
      } else {
        // Only the padding after the last tensor may be missing.
        XCTAssertNoThrow(try GGUFFile(bytes: prefix, name: "image"), "\(count)")
      }
    }
  }

  func testATensorOfAnotherFileCannotReadBeyondThisOne() throws {
    let large = try GGUFFile(bytes: SyntheticFiles.writer().serialized(), name: "large")
    let small = try GGUFFile(bytes: RawGGUF().bytes, name: "small")
    for tensor in large.tensors { XCTAssertEqual(small.bytes(of: tensor).count, 0) }
  }

  func testReadsWhatTheOfficialPackageWrote() throws {
    let bytes = try XCTUnwrap(fixture("Files/official-gguf.bin"))
    let file = try GGUFFile(bytes: bytes, name: "official-gguf.bin")
    let metadata = file.metadata
    XCTAssertEqual(metadata.string("general.architecture"), "test")
    XCTAssertEqual(metadata.value("u8"), .uint8(200))
    XCTAssertEqual(metadata.value("i8"), .int8(-100))
    XCTAssertEqual(metadata.value("u16"), .uint16(60_000))
    XCTAssertEqual(metadata.value("i16"), .int16(-30_000))
    XCTAssertEqual(metadata.value("u32"), .uint32(4_000_000_000))
    XCTAssertEqual(metadata.value("i32"), .int32(-2_000_000_000))
    XCTAssertEqual(metadata.value("f32"), .float32(1.5))
    XCTAssertEqual(metadata.value("u64"), .uint64(1 << 63 + 1))
    XCTAssertEqual(metadata.value("i64"), .int64(-1 << 62))
    XCTAssertEqual(metadata.value("f64"), .float64(0.1))
    XCTAssertEqual(metadata.value("yes"), .bool(true))
    XCTAssertEqual(metadata.string("text"), "naïve ☃")
    XCTAssertEqual(metadata.stringBytes("tokens"), ["a", "", "Ġb"].map { Array($0.utf8) })
    XCTAssertEqual(metadata.integers("numbers"), [1, -2, 3])
    XCTAssertEqual(metadata.floats("scores"), [0.5, -1.25])
    XCTAssertEqual(file.tensors.map(\.name), ["matrix", "half", "blocks"])
    XCTAssertEqual(file.tensors.map(\.dimensions), [[3, 2], [3], [32, 2]])
    XCTAssertEqual(file.tensors.map(\.type), [.f32, .f16, .q4_0])
    XCTAssertEqual(
      file.withBytes(of: file.tensors[0]) { bytes in
        (0..<6).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
      },
      [0, 1, 2, 3, 4, 5])
  }
}
