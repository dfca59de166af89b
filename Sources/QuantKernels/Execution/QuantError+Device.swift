import DeviceModel

extension QuantError {
  /// What the device model refused, as this package's error: a cancelled run stays one, a launch past
  /// a limit is unsupported, anything else an invalid argument.
  public init(_ error: DeviceError) {
    let code: Code =
      switch error.code {
      case .cancelled: .cancelled
      case .launch: .unsupported
      case .outOfMemory: .outOfMemory
      default: .invalidArgument
      }
    self.init(code, error.subject, error.problem, remedy: error.remedy)
  }

  /// What `body` returns; errors of the device model and of layouts become ``QuantError`` with the
  /// same words, so that a kernel's initializer throws one type.
  package static func translating<Value>(_ body: () throws -> Value) throws(QuantError) -> Value {
    do {
      return try body()
    } catch let error as QuantError {
      throw error
    } catch let error as DeviceError {
      throw QuantError(error)
    } catch let error as LayoutError {
      throw QuantError(
        .invalidArgument, error.subject, error.problem, remedy: "correct the layout's parameters")
    } catch {
      throw QuantError(
        .invalidArgument, "simulated kernel", "\(error)", remedy: "correct the arguments")
    }
  }
}
