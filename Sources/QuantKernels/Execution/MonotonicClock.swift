#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The system's steady clock, without Foundation.
public enum MonotonicClock {
  /// Nanoseconds since a fixed but unspecified moment.
  public static func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  /// Nanoseconds of processor time that this process has used, over all threads.
  public static func processorNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  /// Seconds that have passed since `start`, a value of ``nanoseconds()``.
  public static func seconds(since start: UInt64) -> Double {
    Double(nanoseconds() &- start) * 1e-9
  }
}
