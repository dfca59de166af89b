import Foundation
import QuantKernels
import TestSupport
import Testing

/// TQ1_0 and TQ2_0 against PyPI `gguf`, block by block, where a python has it
/// (`QUANTKERNELS_PYTHON`, `python3` by default).
@Suite(.serialized, .enabled(if: GGUFPackage.isThere, "no python with numpy and gguf"))
struct TernaryReferenceTests {
  #if DEBUG
    private static let blocks = 1 << 11
  #else
    private static let blocks = 1 << 20
  #endif
  /// As in reference.py.
  private static let factors: [Float] = [0, 0x1p-20, 0.37, 1000, 1, 0.37, 0x1p-24, 0x1p-26]
  private static let part = 1 << 14

  private static func values(_ first: Int, _ count: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: count * 256) { values, filled in
      for at in 0..<count * 256 {
        var h = UInt32(truncatingIfNeeded: first * 256 + at)
        h ^= h >> 16
        h = h &* 0x85EB_CA6B
        h ^= h >> 13
        h = h &* 0xC2B2_AE35
        h ^= h >> 16
        let block = first + at / 256
        let value =
          block % 4 == 2 ? Float(h % 3) - 1 : Float(Int32(bitPattern: h)) * 0x1p-31
        values[at] = value * factors[block % 8]
      }
      filled = count * 256
    }
  }

  @Test(arguments: [GGMLType.tq1_0, .tq2_0])
  func equalsTheOfficialPackage(_ type: GGMLType) throws {
    let folder = TemporaryFolder()
    let path = folder.file("blocks.bin")
    #expect(
      GGUFPackage.run([GGUFPackage.script, type.name, "\(Self.blocks)", path]) == 0)
    let wanted = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    try #require(wanted.count == Self.blocks * type.blockBytes + 8)
    var total: UInt64 = 0
    for first in stride(from: 0, to: Self.blocks, by: Self.part) {
      let count = min(Self.part, Self.blocks - first)
      let bytes = try GGMLBlocks.quantize(type, Self.values(first, count))
      let start = first * type.blockBytes
      let equal = wanted[start..<start + bytes.count].elementsEqual(bytes)
      try #require(equal, "blocks from \(first)")
      let back = try GGMLBlocks.dequantize(type, bytes)
      for (index, value) in back.enumerated() {
        total &+= UInt64(value.bitPattern) &* (2 &* UInt64(index) &+ 1)
      }
    }
    let sum = (0..<8).reduce(UInt64(0)) {
      $0 | UInt64(wanted[wanted.count - 8 + $1]) << UInt64(8 * $1)
    }
    #expect(total == sum)
  }
}

private enum GGUFPackage {
  static let isThere = run(["-c", "import numpy, gguf"]) == 0
  static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/Ternary/reference.py").path

  static func run(_ arguments: [String]) -> Int32? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let python = ProcessInfo.processInfo.environment["QUANTKERNELS_PYTHON"] ?? "python3"
    process.arguments = [python] + arguments
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    process.waitUntilExit()
    return process.terminationStatus
  }
}
