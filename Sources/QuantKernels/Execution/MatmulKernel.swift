import DeviceModel

/// A matrix product's kernel on simulated warps, with what reports and timing need beside its text.
public protocol MatmulKernel: WarpKernel {
  /// Steps of the main loop, one a warp, in the whole grid.
  var warpSteps: Int { get }
  /// Names of the sites that do not belong to the main loop: what happens once a block.
  var sitesOutsideLoop: Set<String> { get }
  /// How the kernel is launched on a device and what its steps wait for.
  func launch(on device: DeviceSpec) -> Launch
  /// The counters of the part that ``launch(on:)`` times: all of them, but for work that a launch of
  /// its own does.
  func timedCounters(_ counters: Counters) -> Counters
}

extension MatmulKernel {
  /// All of them.
  public func timedCounters(_ counters: Counters) -> Counters { counters }
}

/// Numbers of a kernel's compiled main loop. Those that differ by architecture are for compute
/// capability 8.0 (and 9.0, compiled alike), 8.6 and 8.9.
struct CompiledLoop {
  /// Registers of a thread.
  let registers: (Double, Double, Double)
  /// Instructions of one warp in one step.
  let instructions: (Double, Double, Double)
  /// Cycles that a lone warp takes for the step's instructions, with the stalls that the compiler
  /// wrote, tensor time and global latency left out.
  let issue: (Double, Double, Double)?
  /// Cycles outside the loop.
  let overhead: (Double, Double, Double)?
  /// Which code, which compiler.
  let source: String

  private func pick(_ values: (Double, Double, Double), _ device: DeviceSpec) -> Double {
    let capability = device.capability.value
    return capability < 8.5 || capability >= 9 ? values.0 : capability < 8.8 ? values.1 : values.2
  }

  func registers(on device: DeviceSpec, adding extra: (Double, String)? = nil) -> Sourced {
    let value = pick(registers, device)
    guard let extra else { return Sourced(value, .compilerReport(source)) }
    return Sourced(
      min(255, value + extra.0), .assumed("\(source): \(Int(value)), and \(extra.1)"))
  }

  func instructions(on device: DeviceSpec) -> Sourced {
    Sourced(pick(instructions, device), .compilerReport("\(source), SASS of the loop"))
  }

  /// The replayed stalls, or where there are none one instruction a cycle.
  func issue(on device: DeviceSpec) -> Sourced {
    guard let issue else {
      return Sourced(
        pick(instructions, device),
        .derived("\(source): the loop's instructions, one a cycle a warp"))
    }
    return Sourced(pick(issue, device), .compilerReport("\(source), stalls of the SASS loop"))
  }

  func overhead(on device: DeviceSpec) -> Sourced {
    guard let overhead else {
      return Sourced(500, .assumed("as AWQ's and QUICK's compiled kernels, 300 to 600"))
    }
    return Sourced(pick(overhead, device), .compilerReport("\(source), SASS outside the loop"))
  }
}
