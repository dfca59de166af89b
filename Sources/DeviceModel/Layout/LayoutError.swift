/// What is wrong with the numbers a layout or a fragment was asked to be made of.
public struct LayoutError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The layout or fragment that was asked for.
  public let subject: String
  /// What is wrong, with the value found and the value wanted.
  public let problem: String

  /// An error about `subject`.
  public init(_ subject: String, _ problem: String) {
    self.subject = subject
    self.problem = problem
  }

  /// One line: subject, then problem.
  public var description: String { "\(subject): \(problem)" }
}
