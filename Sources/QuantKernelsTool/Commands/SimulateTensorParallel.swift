import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate tensor-parallel`: an act-order feed-forward block over several modelled devices.
struct SimulateTensorParallel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tensor-parallel",
    abstract: "Collectives, bytes and modelled time of an act-order block over several devices.",
    discussion: """
      Counters come from a permutation of a seed; the time is modelled: kernels by memory rate, \
      compute and start, collectives by the fastest of the library's protocols, each with its α and \
      β. --alpha and --beta replace α and β of every protocol.

      Machines: \(MultiDeviceMachine.all.map(\.identifier).joined(separator: ", ")). Blocks: \
      \(TensorParallelShape.all.map(\.name).joined(separator: ", ")). Schemes: \
      \(TensorParallelScheme.allCases.map(\.rawValue).joined(separator: ", ")).

      EXAMPLES
        quantkernels simulate tensor-parallel --device dgx-a100 --ranks 8 --model llama-70b --m 16 \
      --scheme tp-aware
        quantkernels simulate tensor-parallel --device dgx-h100 --ranks 4 --model granite-20b --m 1 \
      --scheme naive --alpha 2 --beta 100 --json
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "The machine.")
  var device: String

  @Option(name: .long, help: "Devices that share the block.")
  var ranks: Int

  @Option(name: .long, help: "The block.")
  var model: String

  @Option(name: .customLong("m"), help: "Rows of activations (tokens).")
  var tokens = 1

  @Option(name: .long, help: "The scheme.")
  var scheme: TensorParallelScheme

  @Option(name: .long, help: ArgumentHelp("α of every hop, µs.", valueName: "µs"))
  var alpha: Double?

  @Option(name: .long, help: ArgumentHelp("β of every hop, GB/s.", valueName: "GB/s"))
  var beta: Double?

  @Option(name: .long, help: "Algorithm of reductions and gathers: ring, tree or fastest.")
  var algorithm = "ring"

  @Option(name: .long, help: "How weights lie in memory: int4 or fp16.")
  var weights = TensorParallelTime.Weights.int4

  @Option(name: .long, help: "Hidden channels that share a scale.")
  var group = 128

  @Flag(name: .long, help: "A gate beside the up projection.")
  var gated = false

  @Option(name: .long, help: "The seed of the act-order.")
  var seed: UInt64 = 1

  func run() throws {
    let machine: MultiDeviceMachine
    do throws(DeviceError) {
      machine = try MultiDeviceMachine.named(device).with(latency: alpha, bandwidth: beta)
    } catch {
      throw QuantError(error)
    }
    let chosen = CollectiveAlgorithm(rawValue: algorithm)
    guard chosen == .ring || chosen == .tree || algorithm == "fastest" else {
      throw QuantError(
        .invalidArgument, "--algorithm \(algorithm)", "no such algorithm",
        remedy: "use ring, tree or fastest")
    }
    guard var shape = TensorParallelShape.all.first(where: { $0.name == model }) else {
      throw QuantError(
        .invalidArgument, "--model \(model)", "no such block",
        remedy: "use one of " + TensorParallelShape.all.map(\.name).joined(separator: ", "))
    }
    shape.groupSize = group
    shape.isGated = gated
    let plan = try TensorParallelPlan(
      shape: shape, count: tokens, scheme: scheme, ranks: ranks,
      order: try shape.shuffledIndices(seed: seed))
    let steps = try TensorParallelTime(machine: machine, weights: weights, algorithm: chosen)
      .steps(plan)
    let time = steps.reduce(0) { $0 + $1.microseconds }
    let json: JSON = [
      "device": .string(machine.identifier), "model": .string(shape.name),
      "scheme": .string(scheme.rawValue), "ranks": JSON(ranks), "m": JSON(tokens),
      "collectives": JSON(plan.collectives), "bytesPerRank": JSON(plan.bytesPerRank),
      "exchangeBytes": JSON(plan.exchangeBytes), "groupSwitches": JSON(plan.groupSwitches),
      "scaleBytes": JSON(plan.scaleBytes), "gatheredElements": JSON(plan.gatheredElements),
      "largestIntermediate": JSON(plan.largestIntermediate),
      "estimate": [
        "microseconds": JSON(time),
        "steps": .array(
          steps.map { ["name": .string($0.name), "microseconds": JSON($0.microseconds)] }),
      ],
      "protocols": .array(
        machine.protocols.map { way in
          [
            "name": .string(way.name), "start": JSON(way.start.value),
            "alpha": JSON(way.allReduce.latency.value), "beta": JSON(way.allReduce.bandwidth.value),
            "alphaSource": .string(way.allReduce.latency.provenance.source),
            "betaSource": .string(way.allReduce.bandwidth.provenance.source),
          ]
        }),
    ]
    var lines = [
      "\(shape.name)\(gated ? ", gated" : ""), \(scheme.rawValue), M = \(tokens), \(ranks) of "
        + machine.name,
      "collectives \(plan.collectives), bytes a rank \(plan.bytesPerRank) (exchange "
        + "\(plan.exchangeBytes)), group switches \(plan.groupSwitches), scale bytes "
        + "\(plan.scaleBytes)",
      "gathered elements \(plan.gatheredElements), largest intermediate "
        + "\(plan.largestIntermediate)",
    ]
    lines += steps.map {
      "  " + padded($0.name, 34, left: true) + padded(fixed($0.microseconds, 2), 9)
    }
    lines.append("  " + padded("modelled µs", 34, left: true) + padded(fixed(time, 2), 9))
    for way in machine.protocols {
      lines.append(
        "\(way.name): start \(way.start) µs, α \(way.allReduce.latency) µs, β "
          + "\(way.allReduce.bandwidth) GB/s; \(way.allReduce.bandwidth.provenance.source)")
    }
    common.finish(json, text: lines.joined(separator: "\n"))
  }
}

extension TensorParallelScheme: ExpressibleByArgument {}
extension TensorParallelTime.Weights: ExpressibleByArgument {}
