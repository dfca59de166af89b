#if os(Linux)
  import Glibc
  import LanguageModel
  import QuantKernels
  import TestSupport
  import Testing

  /// No header makes the readers take more memory than max(16 MiB, 4 × the file).
  ///
  /// Each test runs in a process of its own, whose data segment (heap and anonymous mappings) may
  /// grow by no more than that; an allocation beyond it ends the process, and the test fails.
  @Suite struct HeaderMemoryTests {
    private static let floor = 16 << 20

    /// Lets the process's private memory grow by `bytes` from here on.
    static func limitGrowth(to bytes: Int) -> Bool {
      guard let status = readFile("/proc/self/status") else { return false }
      let lines = status.split(separator: UInt8(ascii: "\n"))
      guard let line = lines.first(where: { $0.starts(with: Array("VmData:".utf8)) }),
        let kibibytes = Int(
          String(decoding: line.filter { (0x30...0x39).contains($0) }, as: UTF8.self))
      else { return false }
      var limit = rlimit()
      guard getrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit) == 0 else { return false }
      limit.rlim_cur = rlim_t(kibibytes * 1024 + bytes)
      return setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit) == 0
    }

    /// Opens the bytes under the limit, without a copy of them; whether they are refused, or nil
    /// when no limit could be set.
    static func isRefusedWithinBound(
      _ bytes: [UInt8], open: (MappedFile) throws(QuantError) -> Void
    ) -> Bool? {
      bytes.withUnsafeBytes { bytes in
        let file = MappedFile(borrowing: bytes, name: "image")
        guard limitGrowth(to: max(floor, 4 * bytes.count)) else { return nil }
        do throws(QuantError) {
          try open(file)
          return false
        } catch {
          return true
        }
      }
    }

    @Test func theLimitIsFelt() async {
      // Otherwise the tests below could not fail.
      await #expect(processExitsWith: .failure) {
        guard HeaderMemoryTests.limitGrowth(to: HeaderMemoryTests.floor) else { exit(EXIT_SUCCESS) }
        let large = [UInt8](repeating: 1, count: 2 * HeaderMemoryTests.floor)
        exit(large[large.count / 2] == 1 ? EXIT_SUCCESS : 2)
      }
    }

    @Test func absurdCountsAreRefusedWithinTheBound() async {
      await #expect(processExitsWith: .success) {
        var images: [[UInt8]] = []
        for count: UInt64 in [1 << 24, 1 << 32, 1 << 60, .max] {
          var raw = RawGGUF()
          raw.tensorCount = count
          images.append(raw.bytes)
          raw = RawGGUF()
          raw.metadataCount = count
          images.append(raw.bytes)
          for type: UInt32 in [0, 7, 8, 9, 12] {
            raw = RawGGUF()
            raw.add("k", type: 9, RawGGUF.number(type) + RawGGUF.number(count))
            images.append(raw.bytes)
          }
          raw = RawGGUF()
          raw.add("k", type: 8, RawGGUF.number(count))
          images.append(raw.bytes)
        }
        for image in images {
          let refused = HeaderMemoryTests.isRefusedWithinBound(image) { file throws(QuantError) in
            _ = try GGUFFile(file: file)
          }
          if refused == false { exit(EXIT_FAILURE) }
        }
        for length: UInt64 in [1 << 26, 1 << 40, .max] {
          let refused = HeaderMemoryTests.isRefusedWithinBound(
            rawSafetensors("{}", length: length)
          ) { file throws(QuantError) in _ = try SafetensorsFile(file: file) }
          if refused == false { exit(EXIT_FAILURE) }
        }
        exit(EXIT_SUCCESS)
      }
    }

    /// The smallest tensor descriptions there are, in names just too long to be held inline: what
    /// takes the most memory for its bytes.
    @Test func aHeaderFullOfTensorsStaysWithinTheBound() async {
      await #expect(processExitsWith: .success) {
        var raw = RawGGUF()
        for index in 0..<HeaderMemoryTests.dense {
          raw.addTensor(HeaderMemoryTests.name(index), [], type: 24, offset: UInt64(index) * 32)
        }
        raw.data = [UInt8](repeating: 0, count: HeaderMemoryTests.dense * 32)
        let refused = HeaderMemoryTests.isRefusedWithinBound(raw.bytes) { file throws(QuantError) in
          _ = try GGUFFile(file: file)
        }
        exit(refused == true ? EXIT_FAILURE : EXIT_SUCCESS)
      }
    }

    @Test func aHeaderFullOfKeysStaysWithinTheBound() async {
      await #expect(processExitsWith: .success) {
        var raw = RawGGUF()
        for index in 0..<(3 * HeaderMemoryTests.dense) {
          raw.add(rawEntry: RawGGUF.string(HeaderMemoryTests.shortName(index)) + [0, 0, 0, 0, 1])
        }
        let refused = HeaderMemoryTests.isRefusedWithinBound(raw.bytes) { file throws(QuantError) in
          _ = try GGUFFile(file: file)
        }
        exit(refused == true ? EXIT_FAILURE : EXIT_SUCCESS)
      }
    }

    @Test func aSafetensorsHeaderFullOfTensorsStaysWithinTheBound() async {
      await #expect(processExitsWith: .success) {
        var header = "{"
        for index in 0..<HeaderMemoryTests.dense {
          let name = String(decoding: HeaderMemoryTests.name(index), as: UTF8.self)
          header += "\"\(name)\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
        }
        header.removeLast()
        let refused = HeaderMemoryTests.isRefusedWithinBound(rawSafetensors(header + "}")) {
          file throws(QuantError) in _ = try SafetensorsFile(file: file)
        }
        exit(refused == true ? EXIT_FAILURE : EXIT_SUCCESS)
      }
    }

    #if DEBUG
      // Enough to run through; a debug build sorts slowly, and 16 MiB are far away.
      static let dense = 5_000
    #else
      // The 16 MiB are exceeded several times where memory is not in proportion to the file.
      static let dense = 400_000
    #endif

    /// 16 bytes, one more than a string holds inline.
    static func name(_ index: Int) -> [UInt8] { Array("tensor.".utf8) + digits(index, 9) }

    static func shortName(_ index: Int) -> [UInt8] { digits(index, 4) }

    /// In base 44, from "0" to "[": no quote and no backslash, which JSON would escape.
    private static func digits(_ index: Int, _ count: Int) -> [UInt8] {
      var rest = index
      return (0..<count).map { _ in
        defer { rest /= 44 }
        return UInt8(0x30 + rest % 44)
      }
    }
  }
#endif
