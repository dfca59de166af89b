import LanguageModel
import QuantKernels
import TestSupport
import XCTest

final class SafetensorsTests: XCTestCase {
  private func assertRefused(
    _ bytes: [UInt8], _ words: String, code: QuantError.Code = .invalidData, line: UInt = #line
  ) {
    XCTAssertThrowsError(try SafetensorsFile(bytes: bytes, name: "image"), line: line) { error in
      guard let error = error as? QuantError else { return XCTFail("\(error)", line: line) }
      XCTAssertEqual(error.code, code, error.description, line: line)
      XCTAssertTrue(error.description.contains(words), error.description, line: line)
      XCTAssertFalse(error.description.contains("\n"), line: line)
    }
  }

  func testReadsWhatTheOfficialPackageWrote() throws {
    let bytes = try XCTUnwrap(fixture("Files/official-safetensors.bin"))
    let file = try SafetensorsFile(bytes: bytes, name: "official-safetensors.bin")
    XCTAssertEqual(file.metadata, ["format": "pt"])
    XCTAssertEqual(file.tensors.count, 7)
    let matrix = try XCTUnwrap(file.tensor(named: "b.weight"))
    XCTAssertEqual(matrix.type, .f32)
    XCTAssertEqual(matrix.shape, [2, 3])
    XCTAssertEqual(
      file.withBytes(of: matrix) { bytes in
        (0..<6).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
      },
      [0, 1, 2, 3, 4, 5])
    let half = try XCTUnwrap(file.tensor(named: "a \"quoted\" ☃"))
    XCTAssertEqual(half.type, .f16)
    XCTAssertEqual(file.withBytes(of: half) { Array($0) }, [0, 0x3c, 0, 0xc0, 0, 0x38])
    let ids = try XCTUnwrap(file.tensor(named: "ids"))
    XCTAssertEqual(
      file.withBytes(of: ids) { $0.loadUnaligned(fromByteOffset: 8, as: Int64.self) }, 1 << 40)
    XCTAssertEqual(file.tensor(named: "scalar")?.shape, [])
    XCTAssertEqual(file.tensor(named: "empty")?.shape, [0, 4])
    XCTAssertEqual(file.tensor(named: "empty")?.byteCount, 0)
    XCTAssertNil(file.tensor(named: "__metadata__"))
  }

  func testWritesWhatTheOfficialPackageWrites() throws {
    let bytes = try XCTUnwrap(fixture("Files/official-safetensors.bin"))
    let official = try SafetensorsFile(bytes: bytes, name: "official-safetensors.bin")
    var writer = SafetensorsWriter(metadata: official.metadata)
    for tensor in official.tensors.reversed() {
      try writer.addTensor(
        tensor.name, type: tensor.type, shape: tensor.shape,
        bytes: official.withBytes(of: tensor) { Array($0) })
    }
    XCTAssertEqual(try writer.serialized(), bytes)
  }

  func testRoundTripOfEveryTypeThroughAFile() throws {
    let folder = TemporaryFolder()
    var writer = try SyntheticFiles.safetensorsWriter()
    for type in SafetensorsType.allCases {
      let bytes = (0..<type.bits).map { UInt8($0) }
      try writer.addTensor("all.\(type.rawValue)", type: type, shape: [2, 4], bytes: bytes)
    }
    try writer.write(to: folder.file("a.safetensors"))
    let file = try SafetensorsFile(path: folder.file("a.safetensors"))
    XCTAssertEqual(file.metadata, writer.metadata)
    XCTAssertEqual(file.tensors.count, 8 + SafetensorsType.allCases.count)
    XCTAssertEqual(file.dataOffset % 8, 0)
    for tensor in file.tensors {
      XCTAssertEqual(
        file.withBytes(of: tensor) { Array($0) }, (0..<tensor.byteCount).map { UInt8($0) },
        tensor.name)
      // Wider elements come first, so that each tensor lies on a multiple of its element.
      XCTAssertEqual(tensor.offset % max(1, tensor.type.bits / 8), 0, tensor.name)
    }
    XCTAssertEqual(file.tensor(named: "all.BF16")?.type, .bf16)
    XCTAssertEqual(
      try SafetensorsFile(bytes: readFile(file.path) ?? [], name: "").tensors.count, 28)
  }

  func testReadsHeadersAsOtherWritersMayPutThem() throws {
    // Space anywhere, keys in another order and beyond those of the format, an escaped name.
    let header = """
      {  "x\\u00e9\\ud83d\\ude00" :\t{"data_offsets":[ 4 , 8 ],"note":{"a":[1,-2.5e3,null,true,"\\"" ]},
      "shape":[1,4],"dtype":"U8"}, "__metadata__" : { } , "y":{"dtype":"F32","shape":[],
      "data_offsets":[0,4]} }   
      """
    let file = try SafetensorsFile(bytes: rawSafetensors(header, data: 8), name: "image")
    XCTAssertEqual(file.tensors.map(\.name), ["xé😀", "y"])
    XCTAssertEqual(file.tensors.map { $0.offset - file.dataOffset }, [4, 0])
    XCTAssertEqual(file.metadata, [:])
    XCTAssertEqual(try SafetensorsFile(bytes: rawSafetensors("{}"), name: "").tensors.count, 0)
  }

  func testWrongHeadersAreRefused() {
    assertRefused([], "0 bytes")
    assertRefused([1, 0, 0, 0, 0, 0, 0], "7 bytes")
    for length: UInt64 in [3, 100, 1 << 40, 1 << 63, .max] {
      assertRefused(rawSafetensors("{}", length: length), "declares a header of \(length) bytes")
    }
    assertRefused(rawSafetensors(""), "'{'")
    assertRefused(rawSafetensors(" {}"), "'{'")
    assertRefused(rawSafetensors("GGUF"), "'{'")
    for header in [
      "{", "{}}", "{} x", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1}", "{\"__metadata__\":{}",
      "{\"__metadata__\":{},}",
      "{'a':{}}", "{\"a\\x\":{}}", "{\"a\n\":{}}", "{\"\\ud800\":{}}", "{\"\\udc00\\ud800\":{}}",
      "{\"\\u12\":{}}", "{\"\\u12g4\":{}}", "{\"a", "{\"a\\", "{\"__metadata__\":{\"a\":1}}",
      "{\"__metadata__\":[]}", "{}\0",
    ] {
      assertRefused(rawSafetensors(header), "JSON at byte")
    }
    assertRefused(RawGGUF.number(UInt64(4)) + [0x7b, 0x22, 0xff, 0x22], "no valid UTF-8")
    assertRefused(rawSafetensors("{\"__metadata__\":{},\"__metadata__\":{}}"), "appears twice")
    assertRefused(
      rawSafetensors("{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}}"), "appears twice")
    let deep = String(repeating: "[", count: 100_000)
    assertRefused(rawSafetensors("{\"a\":{\"x\":\(deep)"), "nest deeper")
  }

  func testWrongTensorsAreRefused() {
    func tensor(
      _ name: String = "a", dtype: String = "\"F32\"", shape: String = "[2]",
      offsets: String = "[0,8]"
    ) -> String {
      "\"\(name)\":{\"dtype\":\(dtype),\"shape\":\(shape),\"data_offsets\":\(offsets)}"
    }
    func refused(
      _ tensors: String..., data: Int = 8, words: String, code: QuantError.Code = .invalidData,
      line: UInt = #line
    ) {
      assertRefused(
        rawSafetensors("{\(tensors.joined(separator: ","))}", data: data), words, code: code,
        line: line)
    }
    refused(tensor(), data: 7, words: "do not lie in the 7 bytes")
    refused(tensor(), data: 9, words: "1 bytes at the end belong to no tensor")
    refused(data: 1, words: "1 bytes at the end belong to no tensor")
    refused(tensor(dtype: "\"F31\""), words: "unknown type 'F31'", code: .unsupported)
    refused(tensor(dtype: "32"), words: "a string is expected")
    refused(tensor(shape: "[3]"), words: "takes 12 bytes")
    refused(tensor(shape: "[2,0]"), words: "takes 0 bytes")
    refused(tensor(shape: "[-2]"), words: "whole number")
    refused(tensor(shape: "[2.0]"), words: "whole number")
    refused(tensor(shape: "[2e0]"), words: "whole number")
    refused(tensor(shape: "[02]"), words: "begins with 0")
    refused(tensor(shape: "[9223372036854775808]"), words: "exceeds")
    refused(tensor(shape: "[99999999999999999999999999]"), words: "exceeds")
    refused(tensor(shape: "[4294967296,4294967296]"), words: "overflows")
    refused(tensor(shape: "[2305843009213693952,8]"), words: "overflows")
    refused(tensor(dtype: "\"F4\"", shape: "[3]"), words: "overflows")
    refused(tensor(shape: "2"), words: "'[' is expected")
    refused(
      tensor(shape: "[\(Array(repeating: "1", count: 65).joined(separator: ","))]"),
      words: "more than 64 dimensions")
    refused(tensor(offsets: "[8,0]"), words: "do not lie")
    refused(tensor(offsets: "[0,9223372036854775807]"), words: "do not lie")
    refused(tensor(offsets: "[9223372036854775807,9223372036854775807]"), words: "do not lie")
    refused(tensor(offsets: "[0]"), words: "',' is expected")
    refused(tensor(offsets: "[0,8,8]"), words: "']' is expected")
    refused("\"a\":{\"dtype\":\"F32\",\"shape\":[2]}", words: "lacks")
    refused(
      "\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}",
      words: "'dtype' appears twice")
    refused(
      tensor(), tensor("b", offsets: "[8,16]"), tensor(offsets: "[16,24]"), data: 24,
      words: "'a' appears twice")
    refused(tensor(), tensor("b", offsets: "[4,12]"), data: 12, words: "overlaps")
    refused(tensor(), tensor("b", offsets: "[0,8]"), words: "overlaps")
    refused(tensor(), tensor("b", offsets: "[9,17]"), data: 17, words: "gap")
    refused(tensor(offsets: "[1,9]"), data: 9, words: "gap")
  }

  func testTruncationAtEveryByteIsRefused() throws {
    let bytes = try SyntheticFiles.safetensorsWriter().serialized()
    XCTAssertNoThrow(try SafetensorsFile(bytes: bytes, name: "image"))
    for count in 0..<bytes.count {
      XCTAssertThrowsError(
        try SafetensorsFile(bytes: Array(bytes[..<count]), name: "image"), "\(count)"
      ) { XCTAssertEqual(($0 as? QuantError)?.code, .invalidData) }
    }
  }

  func testWrongArgumentsAreRefused() throws {
    var writer = SafetensorsWriter()
    try writer.addTensor("a", type: .u8, shape: [1], bytes: [1])
    for (name, shape, count) in [
      ("a", [1], 1), ("__metadata__", [1], 1), ("b", [2], 1), ("b", [-1], 0),
      ("b", [Int.max, Int.max], 0), ("b", [Int](repeating: 1, count: 65), 1),
    ] {
      XCTAssertThrowsError(
        try writer.addTensor(
          name, type: .u8, shape: shape, bytes: [UInt8](repeating: 0, count: count))
      ) { XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument) }
    }
    XCTAssertThrowsError(try writer.addTensor("c", type: .f4, shape: [3], bytes: [0, 0]))
    try writer.addTensor("short", type: .u8, shape: [2]) { sink throws(QuantError) in
      try sink.write([1])
    }
    let folder = TemporaryFolder()
    XCTAssertThrowsError(try writer.write(to: folder.file("a"))) {
      XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument)
    }
    XCTAssertEqual(folder.names, [])
  }
}
