/// When the operations of one core's program run: a pure function of program, device and where the
/// regions of global memory live.
///
/// List scheduling in the order of issue: an operation starts when its pipe is free, what it reads
/// is written, and what it writes is no longer read. A flag reaches its waiter `flagCycles` after
/// the setter's pipe came to it. Times are whole numbers of 1/1024 cycle, so that a repeated order
/// gives exactly repeated times; where it does, the rest of the repetition is added without being
/// walked through.
public struct NPUSchedule: Sendable, Hashable {
  /// From the first operation's start to the last one's end, cycles.
  public let cycles: Double
  /// Cycles for which each pipe of each unit is busy.
  public let busyCycles: [PipeOfUnit: Double]

  /// A pipe of one instruction stream.
  public struct PipeOfUnit: Sendable, Hashable {
    /// The instruction stream.
    public let unit: Int
    /// The pipe.
    public let pipe: NPUPipe
  }

  static let ticks = 1024.0

  /// Schedules a program.
  ///
  /// - Parameters:
  ///   - isResident: for each of the program's regions, whether the second-level cache holds it.
  ///   - skipsRepetitions: off only to prove that skipping changes nothing.
  /// - Throws: ``DeviceError`` `.race` when a unit touches a slot of global memory that another
  ///   has not yet let go of: a flag is missing.
  init(
    _ program: NPUProgram, on spec: NPUSpec, isResident: [Bool], skipsRepetitions: Bool = true
  ) throws(DeviceError) {
    let durations = program.blocks.map { block in
      block.operations.map { Self.duration($0, spec, isResident) }
    }
    var state = State(program: program, flagTicks: Self.toTicks(spec.flagCycles.value))
    var walker = RepetitionWalker(program: program, skips: skipsRepetitions)
    try walker.walk(&state, durations)
    cycles = Double(state.latest) / Self.ticks
    var busy: [PipeOfUnit: Double] = [:]
    var runs = [Int](repeating: 0, count: program.blocks.count)
    for entry in program.entries { runs[Int(entry.block)] += Int(entry.count) }
    for (number, block) in program.blocks.enumerated() where runs[number] > 0 {
      for (operation, duration) in zip(block.operations, durations[number]) where duration > 0 {
        guard let pipe = NPUPipe(rawValue: Int(operation.pipe)) else { continue }
        busy[PipeOfUnit(unit: Int(operation.unit), pipe: pipe), default: 0] +=
          Double(duration) * Double(runs[number]) / Self.ticks
      }
    }
    busyCycles = busy
  }

  private static func toTicks(_ cycles: Double) -> Int { Int((cycles * ticks).rounded(.up)) }

  private static func duration(
    _ operation: NPUOperation, _ spec: NPUSpec, _ isResident: [Bool]
  ) -> Int {
    switch operation.kind {
    case .set, .wait: return 0
    case .product:
      // 4096 multiply-adds are a fractal's 16³.
      return toTicks(
        spec.cubeStartCycles.value + Double(operation.amount) * 4096 / spec.cubeRate.value)
    case .vector:
      return toTicks(
        spec.vectorStartCycles.value + Double(operation.amount) * spec.repeatCycles.value)
    case .exponential:
      return toTicks(
        spec.vectorStartCycles.value
          + Double(operation.amount) * spec.exponentialRepeatCycles.value)
    case .copy:
      guard let path = NPUPath(rawValue: Int(operation.path)) else { return 0 }
      let cached = operation.region >= 0 && isResident[Int(operation.region)]
      let rate = rate(path, spec, cached: cached)
      return toTicks(spec.copyStartCycles.value + Double(operation.amount) / rate)
    }
  }

  private static func rate(_ path: NPUPath, _ spec: NPUSpec, cached: Bool) -> Double {
    switch path {
    case .globalToL1, .globalToUB: cached ? spec.l2Read.value : spec.memoryPort.value
    case .l1ToL0A: spec.l1ToL0A.value
    case .l1ToL0B: spec.l1ToL0B.value
    case .l0cToGlobal: cached ? spec.l2Write.value : spec.memoryPort.value
    case .l0cToUB: spec.l0cToUB.value
    case .ubToGlobal:
      min(spec.ubToGlobal.value, cached ? spec.l2Write.value : spec.memoryPort.value)
    case .ubToL1: spec.ubToL1.value
    }
  }

  /// Times of everything that an operation can wait for, in ticks.
  struct State {
    let program: NPUProgram
    let flagTicks: Int
    /// All times in one array: pipes, then flags, then written, then read times of tiles.
    var times: [Int]
    let flags: Int
    let written: Int
    let read: Int
    var latest = 0

    init(program: NPUProgram, flagTicks: Int) {
      self.program = program
      self.flagTicks = flagTicks
      flags = program.units * NPUPipe.allCases.count
      written = flags + program.flagCount
      read = written + program.isGlobalSlot.count
      times = Array(repeating: 0, count: read + program.isGlobalSlot.count)
    }

    mutating func run(_ block: Int, _ durations: [Int]) throws(DeviceError) {
      let operations = program.blocks[block].operations
      let pipes = NPUPipe.allCases.count
      for index in operations.indices {
        let operation = operations[index]
        let pipe = Int(operation.unit) * pipes + Int(operation.pipe)
        var start = times[pipe]
        switch operation.kind {
        case .set:
          times[flags + Int(operation.amount)] = start + flagTicks
          continue
        case .wait:
          times[pipe] = max(start, times[flags + Int(operation.amount)])
          continue
        default: break
        }
        var floor = start
        for tile in [operation.read0, operation.read1] where tile >= 0 {
          let ready = times[written + Int(tile)]
          if program.isGlobalSlot[Int(tile)] {
            floor = max(floor, ready)
          } else {
            start = max(start, ready)
          }
        }
        if operation.write >= 0 {
          let tile = Int(operation.write)
          if program.isGlobalSlot[tile] {
            floor = max(floor, times[read + tile])
          } else {
            start = max(start, times[written + tile], times[read + tile])
          }
        }
        if start < floor {
          throw DeviceError(
            .race, "block \(block), operation \(index)",
            "touches a slot of global memory \(Double(floor - start) / NPUSchedule.ticks) cycles "
              + "before it is free",
            remedy: "wait for the flag of the unit that uses it")
        }
        let end = start + durations[index]
        times[pipe] = end
        if operation.write >= 0 {
          let at = written + Int(operation.write)
          times[at] = max(times[at], end)
        }
        if operation.read0 >= 0 {
          times[read + Int(operation.read0)] = max(times[read + Int(operation.read0)], end)
        }
        if operation.read1 >= 0 {
          times[read + Int(operation.read1)] = max(times[read + Int(operation.read1)], end)
        }
        latest = max(latest, end)
      }
    }
  }
}

/// Walks through a program's entries and skips repetitions whose times repeat.
///
/// When the same blocks ran between two moments A and B, and between A and B every time either did
/// not change or moved by one and the same distance D > 0, then the next run of these blocks moves
/// them so again: a time that did not change cannot have held anything up, for then the pipe that
/// waited for it would not have moved by D.
private struct RepetitionWalker {
  let program: NPUProgram
  let skips: Bool

  mutating func walk(_ state: inout NPUSchedule.State, _ durations: [[Int]]) throws(DeviceError) {
    let entries = program.entries
    // For each period, how far from each entry on the order equals that of one period earlier.
    var runs: [(period: Int, ends: [Int])] = []
    if skips {
      for period in Set(program.periods).sorted() where period > 0 && 2 * period < entries.count {
        var ends = [Int](repeating: 0, count: entries.count)
        var end = entries.count
        for index in stride(from: entries.count - 1, through: period, by: -1) {
          if entries[index] != entries[index - period] { end = index }
          ends[index] = end
        }
        runs.append((period, ends))
      }
    }
    var snapshots = [(index: Int, times: [Int])?](repeating: nil, count: runs.count)
    var index = 0
    while index < entries.count {
      var skipped = false
      // Long periods first: they skip more.
      for (number, run) in runs.enumerated().reversed() {
        guard index >= run.period, run.ends[index] - index >= run.period else {
          snapshots[number] = nil
          // A later moment may begin a repetition: remember this one.
          if index + run.period < entries.count, run.ends[index + run.period] > index + run.period {
            snapshots[number] = (index, state.times)
          }
          continue
        }
        if let snapshot = snapshots[number], snapshot.index == index - run.period,
          let distance = Self.distance(snapshot.times, state.times)
        {
          let times = (run.ends[index] - index) / run.period
          Self.advance(&state, since: snapshot.times, by: distance * times)
          index += times * run.period
          snapshots[number] = nil
          skipped = true
          break
        }
        if snapshots[number] == nil || index - (snapshots[number]?.index ?? 0) >= run.period {
          snapshots[number] = (index, state.times)
        }
      }
      if skipped { continue }
      try run(entries[index], &state, durations)
      index += 1
    }
  }

  private func run(
    _ entry: NPUProgram.Entry, _ state: inout NPUSchedule.State, _ durations: [[Int]]
  ) throws(DeviceError) {
    let block = Int(entry.block)
    var left = Int(entry.count)
    while left > 0 {
      let before = left > 2 && skips ? state.times : []
      try state.run(block, durations[block])
      left -= 1
      if !before.isEmpty, let distance = Self.distance(before, state.times) {
        Self.advance(&state, since: before, by: distance * left)
        return
      }
    }
  }

  /// The one distance by which times moved that did; nil when there is none or more than one.
  private static func distance(_ before: [Int], _ after: [Int]) -> Int? {
    var distance = 0
    for index in before.indices where after[index] != before[index] {
      let moved = after[index] - before[index]
      if distance == 0 { distance = moved } else if moved != distance { return nil }
    }
    return distance > 0 ? distance : nil
  }

  private static func advance(
    _ state: inout NPUSchedule.State, since before: [Int], by distance: Int
  ) {
    for index in before.indices where state.times[index] != before[index] {
      state.times[index] += distance
    }
    state.latest += distance
  }
}
