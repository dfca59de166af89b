import CDeviceModel

/// Counters of one access of a kernel's text while blocks run: plain numbers behind a pointer, since
/// every simulated access adds to them.
struct SiteTally {
  var operation: Access.Operation?
  var isGlobalStore = false
  var shared = Counters.SharedMemory()
  var global = Counters.GlobalMemory()
  var laneAccesses = 0
  var example: Access?
  var exampleBlock = Int.max
  var sharedMemo = cdm_memo()
  var globalMemo = cdm_memo()
}

/// Counters of a worker: one tally a site, and what is not of a site.
@safe
struct Tally {
  let sites: UnsafeMutableBufferPointer<SiteTally>
  let matrix: UnsafeMutableBufferPointer<Int>
  let instructions: UnsafeMutableBufferPointer<Int>

  init(sites count: Int) {
    unsafe sites = .allocate(capacity: count)
    unsafe sites.initialize(repeating: SiteTally())
    unsafe matrix = .allocate(capacity: MatrixShape.allCases.count)
    unsafe matrix.initialize(repeating: 0)
    unsafe instructions = .allocate(capacity: InstructionClass.allCases.count)
    unsafe instructions.initialize(repeating: 0)
  }

  func deallocate() {
    unsafe sites.deinitialize()
    unsafe sites.deallocate()
    unsafe matrix.deallocate()
    unsafe instructions.deallocate()
  }

  /// Back to zero, but for what the memos remember.
  func reset() {
    for index in unsafe sites.indices {
      unsafe sites[index].shared = Counters.SharedMemory()
      unsafe sites[index].global = Counters.GlobalMemory()
      unsafe sites[index].laneAccesses = 0
      unsafe sites[index].example = nil
      unsafe sites[index].exampleBlock = Int.max
      unsafe sites[index].sharedMemo.width = 0
    }
    unsafe matrix.update(repeating: 0)
    unsafe instructions.update(repeating: 0)
  }

  /// The counters so far.
  func counters(names: [String]) -> Counters {
    var counters = Counters(sites: names)
    for index in names.indices {
      let tally = unsafe sites[index]
      counters.sites[index].operation = tally.operation
      counters.sites[index].isGlobalStore = tally.isGlobalStore
      counters.sites[index].shared = tally.shared
      counters.sites[index].global = tally.global
      counters.sites[index].laneAccesses = tally.laneAccesses
      counters.sites[index].example = tally.example
      counters.sites[index].exampleBlock = tally.exampleBlock
    }
    for (index, shape) in MatrixShape.allCases.enumerated() where unsafe matrix[index] > 0 {
      counters.matrixInstructions[shape] = unsafe matrix[index]
    }
    for (index, kind) in InstructionClass.allCases.enumerated()
    where unsafe instructions[index] > 0 {
      counters.instructions[kind] = unsafe instructions[index]
    }
    return counters
  }
}

extension MatrixShape {
  var tallyIndex: Int {
    switch self {
    case .m16n8k16: 0
    case .m16n8k32: 1
    case .m8n8k4: 2
    }
  }
}

extension InstructionClass {
  var tallyIndex: Int {
    switch self {
    case .half2: 0
    case .float: 1
    case .integer: 2
    case .dot: 3
    case .conversion: 4
    case .special: 5
    case .shuffle: 6
    case .control: 7
    }
  }
}
