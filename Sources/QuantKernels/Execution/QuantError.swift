/// The one error type of the package: what is wrong, where, and what to do about it.
///
/// Public API throws it on whatever a caller or a file can get wrong, before any memory is touched.
/// `description` is one line: "*where*: *what*; *remedy*".
public struct QuantError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The kind of failure; the command line maps each to its exit code.
  public enum Code: Sendable, Equatable {
    /// The caller's argument is wrong (a size, an option, a buffer's length).
    case invalidArgument
    /// A file's or a tensor's contents are wrong (truncated, out of range, not finite).
    case invalidData
    /// A file is not there, or cannot be read or written.
    case missingFile
    /// Valid, but not something this package can do (an unknown type or architecture).
    case unsupported
    /// There is not enough memory for what was asked.
    case outOfMemory
    /// The work was cancelled (Ctrl-C).
    case cancelled
  }

  /// What kind of thing went wrong.
  public let code: Code
  /// Where: a file, a tensor, a parameter.
  public let subject: String
  /// What is wrong, with the value found and the value wanted.
  public let problem: String
  /// What to do.
  public let remedy: String

  /// An error: its kind, where, what, and what to do.
  public init(_ code: Code, _ subject: String, _ problem: String, remedy: String) {
    self.code = code
    self.subject = subject
    self.problem = problem
    self.remedy = remedy
  }

  public var description: String { "\(subject): \(problem); \(remedy)" }
}
