/// What a simulated kernel, a launch or a request to the device model got wrong.
///
/// `description` is one line: where, what, what to do.
public struct DeviceError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The kind of failure.
  public enum Code: String, Sendable, Equatable {
    /// An address is no multiple of the access's width.
    case misaligned
    /// An access passes the end of its memory.
    case outOfRange
    /// Two lanes of one store write different values to the same bytes.
    case overlap
    /// Two warps touch the same bytes between two barriers, or two blocks the same global bytes, at
    /// least one of them writing.
    case race
    /// A byte is read that nothing wrote.
    case uninitialized
    /// A byte of an asynchronous copy is touched before the copy was waited for.
    case pendingCopy
    /// A grid, block or shared-memory request that the device cannot hold.
    case launch
    /// A device that the catalog does not have.
    case unknownDevice
    /// A malformed request: a width, a count, a mask.
    case invalidArgument
    /// This machine has no memory for the simulated buffer.
    case outOfMemory
    /// The run was cancelled.
    case cancelled
  }

  /// The kind of failure.
  public let code: Code
  /// Where: a kernel's access by its call site, a launch, a device.
  public let subject: String
  /// What is wrong, with the lane, the address and the limit where there are such.
  public let problem: String
  /// What to do.
  public let remedy: String
  /// The lane at fault, if one is.
  public let lane: Int?
  /// The byte address at fault, if one is.
  public let address: Int?
  /// The limit that was passed, if one was.
  public let limit: Int?

  /// An error about `subject`.
  public init(
    _ code: Code, _ subject: String, _ problem: String, remedy: String, lane: Int? = nil,
    address: Int? = nil, limit: Int? = nil
  ) {
    self.code = code
    self.subject = subject
    self.problem = problem
    self.remedy = remedy
    self.lane = lane
    self.address = address
    self.limit = limit
  }

  /// One line: "*where*: *what*; *remedy*".
  public var description: String { "\(subject): \(problem); \(remedy)" }
}
