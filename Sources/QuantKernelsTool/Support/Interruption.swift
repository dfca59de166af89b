import QuantKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C: the first sets a flag that long work looks at between its steps, the second kills the process.
enum Interruption {
  private static let flag = Atomic<Bool>(false)

  /// Installs the handler. `SA_RESETHAND` restores the default action for the second signal.
  static func install() {
    _ = flag.load(ordering: .relaxed)
    var action = sigaction()
    let handler: @convention(c) (Int32) -> Void = { _ in
      Interruption.flag.store(true, ordering: .relaxed)
    }
    #if canImport(Darwin)
      action.__sigaction_u.__sa_handler = handler
    #else
      action.__sigaction_handler.sa_handler = handler
    #endif
    action.sa_flags = Int32(truncatingIfNeeded: Int(SA_RESETHAND) | Int(SA_RESTART))
    sigaction(SIGINT, &action, nil)
  }

  /// Whether Ctrl-C has come.
  static var isRequested: Bool { flag.load(ordering: .relaxed) }

  /// - Throws: ``QuantError`` of code `cancelled` when Ctrl-C has come.
  static func check() throws(QuantError) {
    if isRequested {
      throw QuantError(.cancelled, "quantkernels", "interrupted", remedy: "run it again")
    }
  }
}
