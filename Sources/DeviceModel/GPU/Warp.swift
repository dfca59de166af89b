import CDeviceModel

/// One warp of a running block: 32 lanes in lockstep that move data, multiply and count.
///
/// Every movement of data is checked (alignment, range), moves real bytes and adds to the counters of
/// its call site. Arithmetic between movements is plain Swift on ``Lanes``; what it would cost is
/// declared once with ``count(_:_:)``.
public struct Warp {
  /// The warp's number in its block.
  public internal(set) var index = 0
  /// The block's number in the grid.
  public internal(set) var block = 0
  /// The policy that prices shared accesses.
  public let policy: BankPolicy
  /// Whether races, uninitialized reads and early reads of copies are looked for.
  public var isChecked: Bool { globalChecks != nil }

  var globalChecks: GlobalChecks?
  let shared: SharedMemory
  let tally: Tally
  let siteNames: [String]
  let kernelName: String
  var copies = AsyncCopyQueue()
  /// Barriers that the block has passed: what distinguishes an ordered access from a race.
  var epoch = 0

  init(
    policy: BankPolicy, checks: GlobalChecks?, shared: SharedMemory, tally: Tally,
    kernelName: String,
    siteNames: [String]
  ) {
    self.policy = policy
    globalChecks = checks
    self.shared = shared
    self.tally = tally
    self.kernelName = kernelName
    self.siteNames = siteNames
  }

  // MARK: Loads and stores

  /// Loads `R.bytesPerLane` bytes a lane from shared memory; inactive lanes get 0.
  ///
  /// - Throws: ``DeviceError``, naming the lane and the address, when an active address is misaligned
  ///   or out of range, or under checks races with another warp, was never written, or belongs to a
  ///   copy that was not waited for.
  @inlinable
  public mutating func loadShared<R: LaneRegisters>(
    _: R.Type = R.self, at addresses: Lanes<UInt32>, mask: LaneMask = .all, site: Int
  ) throws(DeviceError) -> R {
    var registers = R()
    try unsafe moveShared(
      .load, &registers, width: R.bytesPerLane, addresses, mask: mask, site: site)
    return registers
  }

  /// Loads 1 or 2 bytes a lane from shared memory, zero-extended.
  ///
  /// - Throws: as ``loadShared(_:at:mask:site:)``, and for other widths.
  public mutating func loadShared(
    bytes width: Int, at addresses: Lanes<UInt32>, mask: LaneMask = .all, site: Int
  ) throws(DeviceError) -> Lanes<UInt32> {
    try requireNarrow(width, site)
    var registers = Lanes<UInt32>()
    try unsafe moveShared(.load, &registers, width: width, addresses, mask: mask, site: site)
    return registers
  }

  /// Stores `R.bytesPerLane` bytes a lane to shared memory. Of lanes that write the same bytes the
  /// highest wins; under checks, different values there are an error.
  ///
  /// - Throws: as ``loadShared(_:at:mask:site:)``.
  @inlinable
  public mutating func storeShared<R: LaneRegisters>(
    _ value: R, at addresses: Lanes<UInt32>, mask: LaneMask = .all, site: Int
  ) throws(DeviceError) {
    var registers = value
    try unsafe moveShared(
      .store, &registers, width: R.bytesPerLane, addresses, mask: mask, site: site)
  }

  /// Stores the low 1 or 2 bytes of each lane to shared memory.
  ///
  /// - Throws: as ``storeShared(_:at:mask:site:)``, and for other widths.
  public mutating func storeShared(
    _ value: Lanes<UInt32>, bytes width: Int, at addresses: Lanes<UInt32>, mask: LaneMask = .all,
    site: Int
  ) throws(DeviceError) {
    try requireNarrow(width, site)
    var registers = value
    try unsafe moveShared(.store, &registers, width: width, addresses, mask: mask, site: site)
  }

  /// Loads `R.bytesPerLane` bytes a lane from a global buffer at byte offsets; inactive lanes get 0.
  ///
  /// - Throws: ``DeviceError``, naming the lane and the address, when an active offset is misaligned
  ///   or out of range, or under checks another block writes the bytes.
  @inlinable
  public mutating func loadGlobal<R: LaneRegisters>(
    _: R.Type = R.self, from buffer: GlobalBuffer, at offsets: Lanes<UInt32>,
    mask: LaneMask = .all, site: Int
  ) throws(DeviceError) -> R {
    var registers = R()
    try unsafe moveGlobal(
      &registers, width: R.bytesPerLane, buffer, offsets, mask: mask, isStore: false, site: site)
    return registers
  }

  /// Loads 1 or 2 bytes a lane from a global buffer, zero-extended.
  ///
  /// - Throws: as ``loadGlobal(_:from:at:mask:site:)``, and for other widths.
  public mutating func loadGlobal(
    bytes width: Int, from buffer: GlobalBuffer, at offsets: Lanes<UInt32>,
    mask: LaneMask = .all, site: Int
  ) throws(DeviceError) -> Lanes<UInt32> {
    try requireNarrow(width, site)
    var registers = Lanes<UInt32>()
    try unsafe moveGlobal(
      &registers, width: width, buffer, offsets, mask: mask, isStore: false, site: site)
    return registers
  }

  /// Stores `R.bytesPerLane` bytes a lane to a global buffer.
  ///
  /// - Throws: as ``loadGlobal(_:from:at:mask:site:)``.
  @inlinable
  public mutating func storeGlobal<R: LaneRegisters>(
    _ value: R, to buffer: GlobalBuffer, at offsets: Lanes<UInt32>, mask: LaneMask = .all,
    site: Int
  ) throws(DeviceError) {
    var registers = value
    try unsafe moveGlobal(
      &registers, width: R.bytesPerLane, buffer, offsets, mask: mask, isStore: true, site: site)
  }

  /// Stores the low 1 or 2 bytes of each lane to a global buffer.
  ///
  /// - Throws: as ``storeGlobal(_:to:at:mask:site:)``, and for other widths.
  public mutating func storeGlobal(
    _ value: Lanes<UInt32>, bytes width: Int, to buffer: GlobalBuffer, at offsets: Lanes<UInt32>,
    mask: LaneMask = .all, site: Int
  ) throws(DeviceError) {
    try requireNarrow(width, site)
    var registers = value
    try unsafe moveGlobal(
      &registers, width: width, buffer, offsets, mask: mask, isStore: true, site: site)
  }

  // MARK: Asynchronous copies

  /// `cp.async`: 4, 8 or 16 bytes a lane from global to shared memory, visible after
  /// ``waitForCopies(pending:)`` and, to other warps, a barrier.
  ///
  /// Counts a global request and a shared write of that width. Bytes that a hardware kernel would
  /// zero-fill are stored by the caller.
  ///
  /// - Throws: as the load and the store it is made of, and for other widths.
  public mutating func copyAsync(
    bytes width: Int, from buffer: GlobalBuffer, at offsets: Lanes<UInt32>,
    toShared addresses: Lanes<UInt32>, mask: LaneMask = .all, site: Int
  ) throws(DeviceError) {
    guard width == 4 || width == 8 || width == 16 else {
      throw DeviceError(
        .invalidArgument, place(site), "an asynchronous copy of \(width) bytes a lane",
        remedy: "use 4, 8 or 16")
    }
    try requireSite(site)
    try requireFaultless(offsets, mask, width, buffer.byteCount, "global \(buffer.name)", site)
    try requireFaultless(addresses, mask, width, shared.byteCount, "shared", site)
    if isChecked {
      try checkGlobal(buffer, offsets, mask, width, isStore: false, site)
      try checkShared(addresses, mask, width, isStore: true, isPending: true, site)
      copies.add(AsyncCopyQueue.Copy(addresses: addresses, mask: mask, width: width))
    }
    countGlobal(offsets, mask, width, isStore: false, site)
    countShared(.asyncCopy, addresses, mask, width, site, lanes: false)
    unsafe withUnsafeBytes(of: addresses) { to in
      unsafe withUnsafeBytes(of: offsets) { from in
        unsafe cdm_copy(
          shared.bytes, to.baseAddress?.assumingMemoryBound(to: UInt32.self), buffer.bytes,
          from.baseAddress?.assumingMemoryBound(to: UInt32.self), mask.rawValue, UInt32(width))
      }
    }
  }

  /// `cp.async.commit_group`: closes the group of copies so far.
  public mutating func commitCopies() {
    if isChecked { copies.commit() }
  }

  /// `cp.async.wait_group`: all groups but the `pending` youngest have arrived for this warp.
  public mutating func waitForCopies(pending: Int = 0) {
    guard isChecked else { return }
    for copy in copies.wait(pending: pending) {
      shared.settle(copy.addresses, mask: copy.mask, width: copy.width, epoch: epoch)
    }
  }

  // MARK: Counting

  /// Declares `amount` warp instructions of a class.
  public mutating func count(_ kind: InstructionClass, _ amount: Int) {
    unsafe tally.instructions[kind.tallyIndex] += amount
  }
}
