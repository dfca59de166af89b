import LanguageModel
import QuantKernels
import TestSupport
import XCTest

final class SafetensorsModelTests: XCTestCase {
  private let folder = TemporaryFolder()

  private func write(_ name: String, _ tensors: [(name: String, byte: UInt8)]) throws {
    var writer = SafetensorsWriter()
    for tensor in tensors {
      try writer.addTensor(tensor.name, type: .u8, shape: [1], bytes: [tensor.byte])
    }
    try writer.write(to: folder.file(name))
  }

  private func writeIndex(_ text: String) {
    folder.write(Array(text.utf8), "model.safetensors.index.json")
  }

  private func assertRefused(
    _ words: String, code: QuantError.Code = .invalidData, line: UInt = #line
  ) {
    XCTAssertThrowsError(try SafetensorsModel(path: folder.path), line: line) { error in
      guard let error = error as? QuantError else { return XCTFail("\(error)", line: line) }
      XCTAssertEqual(error.code, code, error.description, line: line)
      XCTAssertTrue(error.description.contains(words), error.description, line: line)
    }
  }

  func testJoinsShards() throws {
    try write("one.safetensors", [("a", 1), ("c", 3)])
    try write("two.safetensors", [("b", 2)])
    writeIndex(
      """
      {"metadata": {"total_size": 3, "x": [1.5, {"y": null}]},
       "weight_map": {"b": "two.safetensors", "a": "one.safetensors", "c": "one.safetensors"}}
      """)
    for path in [folder.path, folder.file("model.safetensors.index.json")] {
      let model = try SafetensorsModel(path: path)
      XCTAssertEqual(model.files.count, 2)
      XCTAssertEqual(model.tensors.map(\.name).sorted(), ["a", "b", "c"])
      for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] as [(String, UInt8)] {
        let tensor = try XCTUnwrap(model.tensor(named: name))
        XCTAssertEqual(model.withBytes(of: tensor) { Array($0) }, [byte])
      }
      XCTAssertNil(model.tensor(named: "d"))
    }
  }

  func testOpensOneFileByItsNameOrItsFolder() throws {
    try write("model.safetensors", [("a", 7)])
    for path in [folder.path, folder.file("model.safetensors")] {
      let model = try SafetensorsModel(path: path)
      XCTAssertEqual(
        try model.withBytes(of: XCTUnwrap(model.tensor(named: "a"))) { Array($0) }, [7])
    }
  }

  func testWrongIndicesAreRefused() throws {
    assertRefused("No such file", code: .missingFile)
    try write("one.safetensors", [("a", 1)])
    try write("two.safetensors", [("a", 2)])
    writeIndex("")
    assertRefused("JSON at byte 0")
    writeIndex("{}")
    assertRefused("no 'weight_map'")
    writeIndex("{\"weight_map\":{},\"weight_map\":{}}")
    assertRefused("'weight_map' appears twice")
    writeIndex("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}")
    assertRefused("places tensor 'b'")
    writeIndex("{\"weight_map\":{\"a\":\"three.safetensors\"}}")
    assertRefused("No such file", code: .missingFile)
    writeIndex("{\"weight_map\":{\"a\":\"one.safetensors\",\"A\":\"two.safetensors\"}}")
    assertRefused("places tensor 'A'")
    for outside in ["../one.safetensors", "/etc/passwd", "", "..", "."] {
      writeIndex("{\"weight_map\":{\"a\":\"\(outside)\"}}")
      assertRefused("not in its folder")
    }
    try write("two.safetensors", [("a", 2), ("b", 2)])
    writeIndex("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}")
    assertRefused("'a' is in two files")
  }
}
