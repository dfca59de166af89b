import CDeviceModel

/// A buffer, or a part of one, of a core: what tiles are allocated in.
public struct NPUTile: Sendable, Hashable {
  /// Number by which operations name it.
  let number: Int16
  /// Where it lies.
  public let memory: NPUMemory
  /// The vector unit's instruction stream for the unified buffer, 0 for the cube's.
  public let unit: Int
  /// First byte.
  public let address: Int
  /// Size.
  public let byteCount: Int
  /// What errors call it.
  public let name: String
}

/// One AI core of a simulated NPU: its buffers with real contents, and the record of what it issues.
///
/// Calls copy and compute at once, in the order of the calls, and append an operation to the program
/// that timing schedules. Pipes of one core wait for each other by the buffers that they touch;
/// cores' units wait for each other by flags. Without values only the record is made.
///
/// Units are instruction streams: of a coupled core the one, of a split one 0 for the cube and
/// 1, 2, … for the vector cores.
@safe
public final class NPUCore {
  /// The device.
  public let spec: NPUSpec
  /// Whether buffers have contents.
  public let carriesValues: Bool
  /// What has been recorded.
  public private(set) var program = NPUProgram()
  /// The most bytes in use of each memory, of the fullest unit.
  public private(set) var peakBytes: [NPUMemory: Int] = [:]

  private struct Place: Hashable {
    let memory: NPUMemory
    let unit: Int
  }
  private var used: [Place: [Range<Int>]] = [:]
  private var storage: [Place: UnsafeMutablePointer<UInt8>]
  private var regionNumbers: [String: Int16] = [:]
  private var blockNumbers: [[Int]: Int32] = [:]
  private var open: NPUProgram.Block?
  var vectorCosts: [VectorCostKey: VectorCost] = [:]
  private(set) var scratch: UnsafeMutablePointer<Float>?
  private var scratchCount = 0

  /// A core with empty buffers.
  ///
  /// - Throws: ``DeviceError`` for a device that cannot be (``NPUSpec/check()``).
  public init(_ spec: NPUSpec, carriesValues: Bool) throws(DeviceError) {
    try spec.check()
    self.spec = spec
    self.carriesValues = carriesValues
    unsafe storage = [:]
    unsafe scratch = nil
    program.units = spec.unitsPerCore
  }

  deinit {
    let places = unsafe Array(storage.keys)
    for place in places {
      if let memory = unsafe storage[place] { unsafe cdm_release(memory) }
    }
    unsafe scratch?.deallocate()
  }

  // MARK: Buffers

  /// Takes bytes of a buffer, for as long as the core lives.
  ///
  /// - Parameters:
  ///   - bytes: rounded up to whole blocks of 32.
  ///   - address: nil for behind what is taken already.
  ///   - memory: which kind of buffer.
  ///   - unit: which unit of the core has it.
  ///   - name: what errors call it.
  /// - Throws: ``DeviceError``: `.invalidArgument` for no bytes or a unit that has no such buffer,
  ///   `.misaligned` for an address that is no multiple of 32, `.overlap` for bytes that are taken,
  ///   `.launch` with the capacity as limit when the buffer has no room.
  public func allocate(
    _ memory: NPUMemory, unit: Int = 0, bytes: Int, at address: Int? = nil, _ name: String
  ) throws(DeviceError) -> NPUTile {
    let subject = "\(memory.rawValue) tile \(name)"
    guard bytes > 0 else {
      throw DeviceError(
        .invalidArgument, subject, "has \(bytes) bytes", remedy: "give it at least 1")
    }
    let holdsVector = spec.coupling == .coupled ? unit == 0 : (1..<spec.unitsPerCore) ~= unit
    guard memory == .ub ? holdsVector : unit == 0 else {
      throw DeviceError(
        .invalidArgument, subject, "unit \(unit) has no such buffer",
        remedy: "cube buffers are unit 0's, unified buffers the vector units'")
    }
    let place = Place(memory: memory, unit: unit)
    let taken = used[place] ?? []
    let first = address ?? (taken.last?.upperBound ?? 0)
    guard first >= 0, first % 32 == 0 else {
      throw DeviceError(
        .misaligned, subject, "starts at \(first)", remedy: "use multiples of 32", address: first,
        limit: 32)
    }
    let capacity = spec.capacity(memory)
    guard bytes <= capacity, first <= capacity, (bytes + 31) / 32 * 32 <= capacity - first else {
      throw DeviceError(
        .launch, subject, "\(bytes) bytes from \(first) on where \(spec.name) has \(capacity)",
        remedy: "use smaller tiles", address: first, limit: capacity)
    }
    let range = first..<first + (bytes + 31) / 32 * 32
    if memory != .global {
      guard !taken.contains(where: { $0.overlaps(range) }) else {
        throw DeviceError(
          .overlap, subject, "bytes \(range) are taken", remedy: "choose a free address",
          address: first)
      }
      used[place] = (taken + [range]).sorted { $0.lowerBound < $1.lowerBound }
      let sum = (used[place] ?? []).reduce(0) { $0 + $1.count }
      peakBytes[memory] = max(peakBytes[memory] ?? 0, sum)
      if carriesValues, unsafe storage[place] == nil {
        guard let bytes = unsafe cdm_allocate(capacity) else {
          throw DeviceError(
            .outOfMemory, subject, "\(capacity) bytes are not to be had",
            remedy: "count without values", limit: capacity)
        }
        unsafe storage[place] = unsafe bytes
      }
    }
    guard program.isGlobalSlot.count < Int(Int16.max) else {
      throw DeviceError(
        .invalidArgument, subject, "a core has \(Int16.max) tiles already",
        remedy: "use them again")
    }
    let number = Int16(program.isGlobalSlot.count)
    program.isGlobalSlot.append(memory == .global)
    return NPUTile(
      number: number, memory: memory, unit: unit, address: first, byteCount: bytes, name: name)
  }

  /// A slot of global memory that units of this core write and read in turn, ordered by flags.
  ///
  /// - Throws: ``DeviceError`` as ``allocate(_:unit:bytes:at:_:)``.
  public func globalSlot(_ name: String) throws(DeviceError) -> NPUTile {
    try allocate(.global, bytes: 32, name)
  }

  /// The contents from a byte of a tile on; nil without values.
  func contents(_ tile: NPUTile, byte: Int = 0) -> UnsafeMutableRawPointer? {
    guard carriesValues else { return nil }
    guard let start = unsafe storage[Place(memory: tile.memory, unit: tile.unit)] else {
      return nil
    }
    return unsafe UnsafeMutableRawPointer(start + tile.address + byte)
  }

  /// Memory for `count` floats.
  func workArea(_ count: Int) -> UnsafeMutablePointer<Float> {
    if let scratch = unsafe scratch, scratchCount >= count { return unsafe scratch }
    unsafe scratch?.deallocate()
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: max(1, count))
    unsafe scratch = unsafe memory
    scratchCount = count
    return unsafe memory
  }

  /// - Throws: ``DeviceError`` `.outOfRange` when `bytes` from `byte` on pass the tile's end.
  func require(_ tile: NPUTile, byte: Int = 0, bytes: Int) throws(DeviceError) {
    guard byte >= 0, bytes >= 0, byte <= tile.byteCount, bytes <= tile.byteCount - byte else {
      throw DeviceError(
        .outOfRange, "\(tile.memory.rawValue) tile \(tile.name)",
        "bytes \(byte)..<\(byte &+ bytes) of \(tile.byteCount)", remedy: "use a larger tile",
        address: byte, limit: tile.byteCount)
    }
  }

  /// - Throws: ``DeviceError`` `.invalidArgument` when the tile is of another memory.
  func require(_ tile: NPUTile, in memory: NPUMemory) throws(DeviceError) {
    guard tile.memory == memory else {
      throw DeviceError(
        .invalidArgument, "\(tile.memory.rawValue) tile \(tile.name)",
        "the path needs \(memory.rawValue)", remedy: "use a tile of that buffer")
    }
  }

  // MARK: Record

  /// Issues a block of operations that is known by its key: blocks of the same key are equal. A run
  /// without values issues only the first of a key and notes the others.
  ///
  /// - Parameters:
  ///   - times: how often the block runs in a row; 1 with values, which differ from run to run.
  ///   - key: numbers that tell the block from all others.
  ///   - body: issues the operations.
  /// - Throws: ``DeviceError`` from the body; `.invalidArgument` when a second block of a key issues
  ///   other operations than the first, or blocks are nested.
  public func block(
    _ key: [Int], times: Int = 1, _ body: () throws(DeviceError) -> Void
  ) throws(DeviceError) {
    guard times == 1 || (times > 1 && !carriesValues && times < Int(Int32.max)) else {
      throw DeviceError(
        .invalidArgument, "block \(key)", "\(times) times",
        remedy: "issue it once for each, or count without values")
    }
    guard open == nil else {
      throw DeviceError(
        .invalidArgument, "block \(key)", "is inside another", remedy: "issue them in turn")
    }
    if let known = blockNumbers[key] {
      if carriesValues {
        open = NPUProgram.Block(operations: [], counters: NPUCounters())
        defer { open = nil }
        try body()
        guard open == program.blocks[Int(known)] else {
          throw DeviceError(
            .invalidArgument, "block \(key)", "differs from an earlier one of this key",
            remedy: "make the key tell them apart")
        }
      }
      note(known, times)
      return
    }
    open = NPUProgram.Block(operations: [], counters: NPUCounters())
    defer { open = nil }
    try body()
    if let open {
      let number = Int32(program.blocks.count)
      program.blocks.append(open)
      blockNumbers[key] = number
      note(number, times)
    }
  }

  private func note(_ number: Int32, _ times: Int) {
    if let last = program.entries.last, last.block == number,
      Int(last.count) + times <= Int(Int32.max)
    {
      program.entries[program.entries.count - 1].count += Int32(times)
    } else {
      program.entries.append(NPUProgram.Entry(block: number, count: Int32(times)))
    }
  }

  /// What a block counts; nil for a key that was never issued.
  public func counters(ofBlock key: [Int]) -> NPUCounters? {
    blockNumbers[key].map { program.blocks[Int($0)].counters }
  }

  /// Distances, in blocks, at which the order may repeat: saves scheduling time, changes nothing.
  public func hintPeriods(_ periods: [Int]) { program.periods = periods.filter { $0 > 0 } }

  func record(_ operation: NPUOperation) throws(DeviceError) {
    guard open != nil else {
      throw DeviceError(
        .invalidArgument, "NPU operation", "issued outside a block",
        remedy: "issue it in the body of block(_:_:)")
    }
    open?.operations.append(operation)
  }

  func count(_ change: (inout NPUCounters) -> Void) {
    if open != nil { change(&open!.counters) }
  }

  /// Counts something of the kernel's own.
  public func mark(_ name: String, _ times: Int = 1) {
    count { $0.marks[name, default: 0] += times }
  }

  func regionNumber(_ global: NPUGlobal) -> Int16 {
    if let known = regionNumbers[global.region.name] { return known }
    let number = Int16(program.regions.count)
    program.regions.append(global.region)
    regionNumbers[global.region.name] = number
    return number
  }

  // MARK: Flags

  /// Hands a block over: each unit sets a flag behind what its pipe was given so far.
  ///
  /// - Parameters:
  ///   - flag: a number below 4096 that ``wait(flag:of:unit:pipe:)`` names.
  ///   - units: the units that set it.
  ///   - pipe: which of their pipes.
  /// - Throws: ``DeviceError`` `.invalidArgument` for a flag or unit that the core has not.
  public func handOver(flag: Int, from units: [Int], pipe: NPUPipe) throws(DeviceError) {
    for unit in units { try setFlag(flag, unit: unit, pipe: pipe) }
    count { $0.handOvers += 1 }
  }

  /// Sets one flag behind what the unit's pipe was given so far.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a flag or unit that the core has not.
  public func setFlag(_ flag: Int, unit: Int, pipe: NPUPipe) throws(DeviceError) {
    try synchronize(.set, flag, of: unit, unit: unit, pipe: pipe)
    count { $0.flags += 1 }
  }

  /// Lets what the unit's pipe is given from now on wait for a flag of another unit.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a flag or unit that the core has not.
  public func wait(flag: Int, of setter: Int, unit: Int, pipe: NPUPipe) throws(DeviceError) {
    try synchronize(.wait, flag, of: setter, unit: unit, pipe: pipe)
  }

  private func synchronize(
    _ kind: NPUOperation.Kind, _ flag: Int, of setter: Int, unit: Int, pipe: NPUPipe
  ) throws(DeviceError) {
    guard (0..<4096) ~= flag, (0..<program.units) ~= setter, (0..<program.units) ~= unit else {
      throw DeviceError(
        .invalidArgument, "flag \(flag) of unit \(setter) at unit \(unit)", "there is no such",
        remedy: "use flags 0 to 4095 and units 0 to \(program.units - 1)")
    }
    let number = flag * program.units + setter
    program.flagCount = max(program.flagCount, number + 1)
    try record(
      NPUOperation(
        kind: kind, unit: UInt8(unit), pipe: UInt8(pipe.rawValue), amount: Int32(number)))
  }
}
