#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Resident memory over the time of a run.
struct MemoryRecord {
  private var samples: [(seconds: Double, bytes: Int)] = []

  var latestMebibytes: Int { (samples.last?.bytes ?? 0) >> 20 }

  mutating func note(at seconds: Double) { samples.append((seconds, Self.resident)) }

  /// Prints the medians of the first and the last quarter after the first tenth, in which caches fill.
  ///
  /// - Returns: whether the last is at most 5 % above the first.
  func report() -> Bool {
    guard let end = samples.last?.seconds, samples.count >= 20 else {
      print("memory: too few cases to tell")
      return true
    }
    let warm = samples.filter { $0.seconds >= end / 10 }
    let quarter = (end - end / 10) / 4
    func median(_ range: ClosedRange<Double>) -> Int {
      let sorted = warm.filter { range.contains($0.seconds) }.map(\.bytes).sorted()
      return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }
    let first = median(end / 10...end / 10 + quarter)
    let last = median(end - quarter...end)
    let most = samples.map(\.bytes).max() ?? 0
    let tenths = first > 0 ? (last - first) * 1000 / first : 0
    let sign = tenths < 0 ? "-" : "+"
    let percent = "\(sign)\(abs(tenths) / 10).\(abs(tenths) % 10)"
    print(
      "memory: median \(first >> 20) MiB in the first quarter, \(last >> 20) in the last "
        + "(\(percent) %), at most \(most >> 20)")
    return tenths <= 50
  }

  /// Bytes of this process in memory.
  private static var resident: Int {
    #if canImport(Glibc)
      guard let file = fopen("/proc/self/statm", "r") else { return 0 }
      defer { fclose(file) }
      var line = [CChar](repeating: 0, count: 256)
      guard fgets(&line, 256, file) != nil else { return 0 }
      let text = line.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      let fields = text.split(separator: " ")
      return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    #else
      var usage = rusage_info_current()
      let status = withUnsafeMutablePointer(to: &usage) {
        $0.withMemoryRebound(to: rusage_info_t?.self, capacity: 1) {
          proc_pid_rusage(getpid(), RUSAGE_INFO_CURRENT, $0)
        }
      }
      return status == 0 ? Int(usage.ri_resident_size) : 0
    #endif
  }
}
