import LanguageModel
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C: the first sets a flag that long work looks at between its steps, the second kills the
/// process.
enum Interruption {
  /// What long work looks at between its steps.
  static let flag = CancellationFlag()

  /// Installs the handler. `SA_RESETHAND` restores the default action for the second signal.
  static func install() {
    // Made now: a signal handler must not be the first to touch it.
    _ = flag.isCancelled
    var action = sigaction()
    let handler: @convention(c) (Int32) -> Void = { _ in
      Interruption.flag.cancel()
    }
    #if canImport(Darwin)
      action.__sigaction_u.__sa_handler = handler
    #else
      action.__sigaction_handler.sa_handler = handler
    #endif
    action.sa_flags = Int32(truncatingIfNeeded: Int(SA_RESETHAND))
    sigaction(SIGINT, &action, nil)
  }

  /// Whether Ctrl-C has come.
  static var isRequested: Bool { flag.isCancelled }

  /// - Throws: ``QuantError`` of code `cancelled` when Ctrl-C has come.
  static func check() throws(QuantError) {
    if isRequested {
      throw QuantError(.cancelled, "quantkernels", "interrupted", remedy: "run it again")
    }
  }
}
