import QuantKernels
import TestSupport
import XCTest

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

final class AtomicFileTests: XCTestCase {
  private static let failure = QuantError(.invalidData, "test", "fails", remedy: "nothing")

  func testWritesPiecesOfEverySizeInOrder() throws {
    let folder = TemporaryFolder()
    // Around the buffer's one MiB, and several pieces beyond it.
    let sizes = [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, 5]
    var wanted: [UInt8] = []
    try AtomicFile.write(to: folder.file("a")) { sink throws(QuantError) in
      for (index, size) in sizes.enumerated() {
        let piece = [UInt8](repeating: UInt8(index + 1), count: size)
        try sink.write(piece)
        wanted += piece
        XCTAssertEqual(sink.position, wanted.count)
      }
      try sink.pad(toMultipleOf: 8192)
      wanted += [UInt8](repeating: 0, count: (8192 - wanted.count % 8192) % 8192)
    }
    XCTAssertTrue(readFile(folder.file("a")) == wanted)
    XCTAssertEqual(folder.names, ["a"])
  }

  func testAnErrorMidwayLeavesTheOldFileAndNothingElse() {
    let folder = TemporaryFolder()
    let path = folder.write([1, 2, 3], "a")
    for target in [path, folder.file("new")] {
      XCTAssertThrowsError(
        try AtomicFile.write(to: target) { sink throws(QuantError) in
          try sink.write([UInt8](repeating: 7, count: 3 << 20))
          throw AtomicFileTests.failure
        }
      ) { XCTAssertEqual($0 as? QuantError, AtomicFileTests.failure) }
    }
    XCTAssertEqual(folder.names, ["a"])
    XCTAssertEqual(readFile(path), [1, 2, 3])
  }

  func testCancellationIsSeenWithinALargeWriteAndBeforeTheEnd() {
    let folder = TemporaryFolder()
    let path = folder.write([1, 2, 3], "a")
    for (allowed, bytes) in [(2, 8 << 20), (0, 1)] {
      var asked = 0
      XCTAssertThrowsError(
        try AtomicFile.write(
          to: path,
          isCancelled: {
            asked += 1
            return asked > allowed
          }
        ) { sink throws(QuantError) in
          try sink.write([UInt8](repeating: 7, count: bytes))
        }
      ) { XCTAssertEqual(($0 as? QuantError)?.code, .cancelled) }
      XCTAssertEqual(asked, allowed + 1)
    }
    XCTAssertEqual(folder.names, ["a"])
    XCTAssertEqual(readFile(path), [1, 2, 3])
  }

  func testTheTargetIsUntouchedUntilTheEnd() throws {
    let folder = TemporaryFolder()
    let path = folder.write([1, 2, 3], "a")
    try AtomicFile.write(to: path) { sink throws(QuantError) in
      try sink.write([UInt8](repeating: 7, count: 3 << 20))
      XCTAssertEqual(readFile(path), [1, 2, 3])
    }
    XCTAssertEqual(readFile(path)?.count, 3 << 20)
  }

  func testKeepsPermissionsAndFollowsLinks() throws {
    let folder = TemporaryFolder()
    let path = folder.write([1], "real")
    XCTAssertEqual(chmod(path, 0o640), 0)
    XCTAssertEqual(symlink(path, folder.file("link")), 0)
    try AtomicFile.write(to: folder.file("link")) { sink throws(QuantError) in
      try sink.write([2])
    }
    XCTAssertEqual(readFile(path), [2])
    var status = stat()
    XCTAssertEqual(lstat(path, &status), 0)
    XCTAssertEqual(status.st_mode & 0o777, 0o640)
    XCTAssertEqual(lstat(folder.file("link"), &status), 0)
    XCTAssertEqual(status.st_mode & S_IFMT, S_IFLNK)
  }

  func testTargetsThatCannotBeAreRefused() {
    let folder = TemporaryFolder()
    for path in [folder.path, folder.file("absent/a"), "/dev/null", ""] {
      var called = false
      XCTAssertThrowsError(
        try AtomicFile.write(to: path) { _ throws(QuantError) in called = true }, path
      ) { XCTAssertEqual(($0 as? QuantError)?.code, .missingFile) }
      XCTAssertFalse(called, path)
    }
    XCTAssertThrowsError(
      try AtomicFile.write(to: folder.file("a\0b")) { _ throws(QuantError) in }
    ) { XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument) }
    XCTAssertEqual(folder.names, [])
  }

  /// What a killed process left goes, what another is writing stays; a lock tells them apart.
  func testAbandonedTemporariesAreRemoved() throws {
    let folder = TemporaryFolder()
    func leave() {
      folder.write([1, 2], ".quantkernels-abandoned.partial")
      XCTAssertEqual(mkdir(folder.file(".quantkernels-left.partial"), 0o777), 0)
      folder.write([3], ".quantkernels-left.partial/config.json")
      folder.write([4], ".quantkernels-other")
      folder.write([5], "mine.partial")
    }
    let kept = [".quantkernels-other", "mine.partial"]
    leave()
    try AtomicFile.write(to: folder.file("a")) { sink throws(QuantError) in
      XCTAssertEqual(folder.names.count, 3, "one that is being written")
      // A second writer leaves the first one's alone.
      try AtomicFile.write(to: folder.file("b")) { sink throws(QuantError) in
        try sink.write([6])
      }
      try sink.write([7])
    }
    XCTAssertEqual(folder.names, (kept + ["a", "b"]).sorted())
    XCTAssertEqual(readFile(folder.file("a")), [7])
    leave()
    func isReplaceable(_ name: String) -> Bool { true }
    try AtomicFolder.write(to: folder.file("c"), replaceable: isReplaceable) {
      inner throws(QuantError) in
      try AtomicFile.write(to: folder.file("b")) { sink throws(QuantError) in
        try sink.write([8])
      }
      try AtomicFile.write(to: inner + "/d") { sink throws(QuantError) in try sink.write([9]) }
    }
    XCTAssertEqual(folder.names, (kept + ["a", "b", "c"]).sorted())
    XCTAssertEqual(readFile(folder.file("c/d")), [9])
  }

  func testWritingAfterTheEndIsRefused() throws {
    let folder = TemporaryFolder()
    var kept: AtomicFile?
    try AtomicFile.write(to: folder.file("a")) { sink throws(QuantError) in kept = sink }
    XCTAssertThrowsError(try kept?.write([1])) {
      XCTAssertEqual(($0 as? QuantError)?.code, .invalidArgument)
    }
    XCTAssertEqual(readFile(folder.file("a")), [])
  }

  func testARelativePathWritesIntoTheCurrentFolder() throws {
    let folder = TemporaryFolder()
    var buffer = [CChar](repeating: 0, count: 4096)
    guard getcwd(&buffer, buffer.count) != nil, chdir(folder.path) == 0 else {
      throw XCTSkip("the current folder cannot be changed")
    }
    defer { chdir(buffer) }
    try AtomicFile.write(to: "plain") { sink throws(QuantError) in try sink.write([1]) }
    XCTAssertEqual(folder.names, ["plain"])
  }
}
