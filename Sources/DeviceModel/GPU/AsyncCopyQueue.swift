/// The asynchronous copies of a warp: open ones, and committed groups in order.
///
/// Hardware may move the bytes at any moment between the copy and the wait, so the simulation moves
/// them at once; with checks, bytes that were not waited for must not be touched.
struct AsyncCopyQueue {
  struct Copy {
    let addresses: Lanes<UInt32>
    let mask: LaneMask
    let width: Int
  }

  private var open: [Copy] = []
  private var groups: [[Copy]] = []

  /// Adds a copy to the open group.
  mutating func add(_ copy: Copy) { open.append(copy) }

  /// Closes the open group, which may be empty.
  mutating func commit() {
    groups.append(open)
    open = []
  }

  /// The copies of all groups but the `pending` youngest.
  mutating func wait(pending: Int) -> [Copy] {
    let done = max(0, groups.count - pending)
    defer { groups.removeFirst(done) }
    return groups[..<done].flatMap { $0 }
  }

  /// Copies that nothing waited for.
  var hasUnwaited: Bool { !open.isEmpty || groups.contains { !$0.isEmpty } }
}
