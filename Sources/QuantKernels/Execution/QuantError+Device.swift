import DeviceModel

extension QuantError {
  /// What `body` returns; errors of the device model and of layouts become ``QuantError`` with the
  /// same words, so that a kernel's initializer throws one type.
  static func translating<Value>(_ body: () throws -> Value) throws(QuantError) -> Value {
    do {
      return try body()
    } catch let error as QuantError {
      throw error
    } catch let error as DeviceError {
      throw QuantError(.invalidArgument, error.subject, error.problem, remedy: error.remedy)
    } catch let error as LayoutError {
      throw QuantError(
        .invalidArgument, error.subject, error.problem, remedy: "correct the layout's parameters")
    } catch {
      throw QuantError(
        .invalidArgument, "simulated kernel", "\(error)", remedy: "correct the arguments")
    }
  }
}
