#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A thread whose end can be waited for.
package struct JoinableThread {
  private let thread: pthread_t

  private final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Starts a thread that runs `body`.
  ///
  /// - Throws: ``QuantError`` `.outOfMemory` when the system gives no thread.
  package init(_ body: @escaping @Sendable () -> Void) throws(QuantError) {
    let start = Unmanaged.passRetained(Start(body))
    #if canImport(Darwin)
      var created: pthread_t?
    #else
      var created = pthread_t()
    #endif
    let code = pthread_create(
      &created, nil,
      { argument in
        #if canImport(Darwin)
          let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        #else
          guard let argument else { return nil }
          let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        #endif
        start.body()
        return nil
      }, start.toOpaque())
    #if canImport(Darwin)
      let made = created
    #else
      let made: pthread_t? = created
    #endif
    guard code == 0, let made else {
      start.release()
      throw QuantError(
        .outOfMemory, "thread", "the system gave none (error \(code))",
        remedy: "use fewer ranks or allow more threads")
    }
    thread = made
  }

  /// Returns when the thread has ended. Once.
  package func join() { pthread_join(thread, nil) }
}
