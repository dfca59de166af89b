import LanguageModel
import QuantKernels
import TestSupport
import Testing

/// 10⁵ mutations of a synthetic file of each kind: none may end the process, read a byte outside
/// the file (it lies against a page that may not be touched), or fail by anything but a
/// `QuantError`.
///
/// The mutations are the same in every run.
@Suite struct HostileFilesTests {
  private static let parts = 4
  private static let mutationsOfAPart = 25_000

  enum Kind: CaseIterable { case gguf, safetensors }

  @Test(arguments: Kind.allCases, 0..<HostileFilesTests.parts)
  func mutationsAreReadOrRefused(_ kind: Kind, _ part: Int) throws {
    let base: [UInt8]
    switch kind {
    case .gguf: base = try SyntheticFiles.smallGGUF()
    case .safetensors: base = try SyntheticFiles.safetensorsWriter().serialized()
    }
    var mutator = Mutator(base: base, seed: UInt64(part) + 1)
    let memory = try #require(GuardedBytes(capacity: mutator.capacity))
    var accepted = 0
    var refused = 0
    for _ in 0..<HostileFilesTests.mutationsOfAPart {
      let count = mutator.next()
      let image = memory.tail(count)
      mutator.bytes.withUnsafeBytes {
        image.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count]))
      }
      let file = MappedFile(borrowing: UnsafeRawBufferPointer(image), name: "mutant")
      // Typed throws: nothing but a QuantError can come out.
      do throws(QuantError) {
        switch kind {
        case .gguf: readAll(try GGUFFile(file: file))
        case .safetensors: readAll(try SafetensorsFile(file: file))
        }
        accepted += 1
      } catch {
        refused += 1
        if error.problem.isEmpty || error.remedy.isEmpty || error.description.contains("\n") {
          Issue.record("\(error)")
        }
      }
    }
    // Both ways out must have been taken, many times, or the mutations test nothing.
    #expect(accepted > HostileFilesTests.mutationsOfAPart / 100)
    #expect(refused > HostileFilesTests.mutationsOfAPart / 4)
  }

  /// Touches all that an accepted file offers.
  private func readAll(_ file: GGUFFile) {
    var sum = 0
    let metadata = file.metadata
    for key in metadata.keys {
      switch metadata.type(of: key) {
      case .string: sum &+= metadata.string(key)?.utf8.count ?? 0
      case .array:
        sum &+= metadata.integers(key)?.count ?? metadata.floats(key)?.count ?? 0
        metadata.forEachString(key) { sum &+= $0.count }
        if metadata.value(key) == nil { Issue.record("\(key) was accepted and cannot be read") }
      default: sum &+= metadata.integer(key) ?? (metadata.bool(key) == true ? 1 : 0)
      }
    }
    for tensor in file.tensors {
      let bytes = file.bytes(of: tensor)
      if bytes.count != tensor.byteCount { Issue.record("\(tensor) lies outside the file") }
      sum &+= Int(bytes.first ?? 0) &+ Int(bytes.last ?? 0)
    }
    withExtendedLifetime(sum) {}
  }

  private func readAll(_ file: SafetensorsFile) {
    var sum = 0
    for tensor in file.tensors {
      let bytes = file.bytes(of: tensor)
      if bytes.count != tensor.byteCount { Issue.record("\(tensor) lies outside the file") }
      sum &+= Int(bytes.first ?? 0) &+ Int(bytes.last ?? 0)
    }
    withExtendedLifetime(sum) {}
  }
}

/// Makes one mutant after another of the same bytes.
private struct Mutator {
  /// The mutant, in the first bytes as many as ``next()`` says.
  private(set) var bytes: [UInt8]
  let capacity: Int
  private let base: [UInt8]
  /// Places where eight bytes read as a number that may be a length.
  private let lengths: [Int]
  private var random: RepeatableRandom

  init(base: [UInt8], seed: UInt64) {
    self.base = base
    capacity = base.count + 64
    bytes = base + [UInt8](repeating: 0, count: 64)
    random = RepeatableRandom(seed: seed)
    lengths = (0..<(base.count - 8)).filter { start in
      let value = base[start..<(start + 8)].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      return value > 0 && value <= UInt64(base.count)
    }
  }

  private mutating func below(_ bound: Int) -> Int {
    Int(truncatingIfNeeded: random.next() >> 1) % max(bound, 1)
  }

  /// Makes the next mutant; gives its length.
  mutating func next() -> Int {
    bytes.withUnsafeMutableBytes { bytes in
      base.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(rebasing: bytes[..<$0.count]).copyMemory(from: $0)
      }
    }
    var count = base.count
    for _ in 0...below(2) {
      switch below(6) {
      case 0:
        for _ in 0...below(4) { bytes[below(count)] ^= 1 << UInt8(below(8)) }
      case 1:
        let value: UInt8 = below(2) == 0 ? 0 : 0xff
        let start = below(count)
        for index in start..<min(count, start + 1 + below(9)) { bytes[index] = value }
      case 2: count = below(count + 1)
      case 3: inflateLength(count)
      case 4:
        // One piece over another.
        let length = 1 + below(32)
        let (from, to) = (below(base.count), below(count))
        for index in 0..<min(length, base.count - from, count - to) {
          bytes[to + index] = base[from + index]
        }
      default: count = insertOrDelete(count)
      }
      if count == 0 { break }
    }
    return count
  }

  private mutating func inflateLength(_ count: Int) {
    guard !lengths.isEmpty else { return }
    let start = lengths[below(lengths.count)]
    guard start + 8 <= count else { return }
    var value: UInt64
    switch below(7) {
    case 0: value = 1 << 60
    case 1: value = 1 << 63
    case 2: value = .max
    case 3: value = UInt64(count)
    case 4: value = UInt64(bytes[start]) + 1
    case 5: value = UInt64(below(2 * count))
    default: value = random.next() >> UInt64(below(64))
    }
    for index in 0..<8 {
      bytes[start + index] = UInt8(truncatingIfNeeded: value)
      value >>= 8
    }
  }

  private mutating func insertOrDelete(_ count: Int) -> Int {
    let length = 1 + below(16)
    let place = below(count)
    if below(2) == 0, count + length <= capacity {
      for index in stride(from: count - 1, through: place, by: -1) {
        bytes[index + length] = bytes[index]
      }
      return count + length
    }
    let removed = min(length, count - place)
    for index in place..<(count - removed) { bytes[index] = bytes[index + removed] }
    return count - removed
  }
}
