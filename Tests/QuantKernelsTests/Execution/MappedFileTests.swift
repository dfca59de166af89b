import QuantKernels
import TestSupport
import XCTest

final class MappedFileTests: XCTestCase {
  private func assertThrows(
    _ code: QuantError.Code, _ path: String, line: UInt = #line, saying words: String
  ) {
    XCTAssertThrowsError(try MappedFile(path: path), line: line) { error in
      guard let error = error as? QuantError else { return XCTFail("\(error)", line: line) }
      XCTAssertEqual(error.code, code, line: line)
      XCTAssertTrue(error.description.contains(words), error.description, line: line)
      XCTAssertFalse(error.description.contains("\n"), line: line)
    }
  }

  func testMapsAFilesBytesUnderEveryAdvice() throws {
    let folder = TemporaryFolder()
    let contents = (0..<100_003).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let path = folder.write(contents, "a")
    for advice in [MappedFile.Advice.normal, .willNeed, .random] {
      let file = try MappedFile(path: path, advice: advice)
      XCTAssertEqual(file.withBytes { Array($0) }, contents)
      XCTAssertEqual(file.path, path)
      XCTAssertEqual(Int(bitPattern: file.bytes.baseAddress) % 4096, 0)
    }
  }

  func testAnEmptyFileHasNoBytes() throws {
    let folder = TemporaryFolder()
    XCTAssertEqual(try MappedFile(path: folder.write([], "empty")).bytes.count, 0)
  }

  func testACopyIsIndependentOfItsSource() {
    var source: [UInt8] = [1, 2, 3]
    let file = source.withUnsafeBytes { MappedFile(copying: $0, name: "image") }
    source[1] = 9
    XCTAssertEqual(file.withBytes { Array($0) }, [1, 2, 3])
    XCTAssertEqual(Int(bitPattern: file.bytes.baseAddress) % 64, 0)
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    XCTAssertEqual(MappedFile(copying: nothing, name: "none").bytes.count, 0)
  }

  func testWhatCannotBeMappedIsRefused() {
    let folder = TemporaryFolder()
    assertThrows(.missingFile, folder.file("absent"), saying: "No such file")
    assertThrows(.missingFile, folder.path, saying: "a directory")
    assertThrows(.missingFile, "", saying: "No such file")
    assertThrows(.missingFile, "/dev/null", saying: "a device")
    assertThrows(.invalidArgument, folder.file("a\0b"), saying: "zero byte")
    // Opening a pipe nobody writes to must not wait.
    XCTAssertEqual(mkfifo(folder.file("pipe"), 0o600), 0)
    assertThrows(.missingFile, folder.file("pipe"), saying: "a pipe")
  }

  func testTheFileMayBeReplacedWhileItIsMapped() throws {
    let folder = TemporaryFolder()
    let path = folder.write([1, 2, 3], "a")
    let file = try MappedFile(path: path)
    try AtomicFile.write(to: path) { sink throws(QuantError) in try sink.write([4, 5]) }
    XCTAssertEqual(file.withBytes { Array($0) }, [1, 2, 3])
    XCTAssertEqual(try MappedFile(path: path).withBytes { Array($0) }, [4, 5])
  }
}
