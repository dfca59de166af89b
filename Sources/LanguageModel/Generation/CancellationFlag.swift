import QuantKernels
import Synchronization

/// A request to stop, raised from any thread or signal handler and looked at between tokens and
/// prompt batches.
public final class CancellationFlag: Sendable {
  private let flag = Atomic<Bool>(false)

  /// A flag that is not set.
  public init() {}

  /// Sets the flag, for good; may be called from any thread or a signal handler.
  public func cancel() { flag.store(true, ordering: .relaxed) }
  /// Whether the flag was set.
  public var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

extension Optional where Wrapped == CancellationFlag {
  /// - Throws: `QuantError` `.cancelled` when the flag is there and raised.
  func check() throws(QuantError) {
    guard self?.isCancelled == true else { return }
    throw QuantError(
      .cancelled, "generation", "the work was cancelled", remedy: "start it again when wanted")
  }
}
