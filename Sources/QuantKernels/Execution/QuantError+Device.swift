import DeviceModel

extension QuantError {
  /// What the device model refused, as this package's error: a cancelled run stays one, a launch past
  /// a limit is unsupported, anything else an invalid argument.
  public init(_ error: DeviceError) {
    let code: Code =
      switch error.code {
      case .cancelled: .cancelled
      case .launch: .unsupported
      default: .invalidArgument
      }
    self.init(code, error.subject, error.problem, remedy: error.remedy)
  }

  /// `body`'s value, its ``DeviceError`` as a ``QuantError``.
  static func from<Value>(
    _ body: () throws(DeviceError) -> Value
  ) throws(QuantError) -> Value {
    do throws(DeviceError) {
      return try body()
    } catch {
      throw QuantError(error)
    }
  }
}
