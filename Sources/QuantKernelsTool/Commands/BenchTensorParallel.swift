import ArgumentParser
import QuantKernels

/// `bench tensor-parallel`: the schemes of an act-order block on threads, or on processes.
struct BenchTensorParallel: ParsableCommand, RunsOnRanks {
  static let configuration = CommandConfiguration(
    commandName: "tensor-parallel",
    abstract:
      "Measured time of the four act-order schemes over ranks: threads, or mpirun's processes.",
    discussion: """
      A feed-forward block of random int4 weights in act-order runs on ranks, each with its part: \
      threads of this process, or the processes that mpirun has started. Every round runs each scheme once, beginning with another; ratios are of \
      one round. Bits are compared with those of the first scheme. Local sort adds up in another \
      order, and its groups are padded to the 32 inputs of this package's kernels.

      EXAMPLES
        quantkernels bench tensor-parallel
        quantkernels bench tensor-parallel --ranks 4 --m 16 --gated --json
        quantkernels bench tensor-parallel --ranks 8 --k 8192 --hidden 28672 --n 8192 \
      --schemes naive,tp-aware --m 1 --rounds 3 --plain
        mpirun --bind-to none -n 2 quantkernels bench tensor-parallel
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "Ranks, each on a thread of its own (default: 2; mpirun's processes).")
  var ranks: Int?

  @Option(name: .customLong("m"), help: "Rows of activations, separated by commas.")
  var tokens = "1,4,16"

  @Option(name: .customLong("k"), help: "Inputs.")
  var inputs = 2048

  @Option(name: .long, help: "Hidden channels.")
  var hidden = 7168

  @Option(name: .customLong("n"), help: "Outputs.")
  var outputs = 2048

  @Option(name: .long, help: "Inputs that share a scale.")
  var group = 128

  @Flag(name: .long, help: "A gate beside the up projection.")
  var gated = false

  @Option(name: .long, help: "Schemes, separated by commas (default: all).")
  var schemes: String?

  @Flag(name: .long, help: "Compute in float32 instead of int8 activations.")
  var exact = false

  @Option(name: .long, help: "Rounds.")
  var rounds = 21

  @Flag(name: .long, help: "Also hold the first scheme against plain products on one rank.")
  var plain = false

  @Option(name: .long, help: "The seed of weights and orders.")
  var seed: UInt64 = 1

  func run() throws {
    guard (1...1 << 16).contains(rounds) else {
      throw QuantError(
        .invalidArgument, "--rounds", "is \(rounds)", remedy: "choose 1 to \(1 << 16)")
    }
    let counts = try tokens.split(separator: ",").map { part throws(QuantError) in
      guard let count = Int(part) else {
        throw QuantError(
          .invalidArgument, "--m \(tokens)", "\(part) is no number", remedy: "write --m 1,4,16")
      }
      return count
    }
    let all = TensorParallelScheme.allCases
    let chosen = try (schemes?.split(separator: ",") ?? all.map { $0.rawValue[...] }).map {
      part throws(QuantError) in
      guard let scheme = TensorParallelScheme(rawValue: String(part)) else {
        throw QuantError(
          .invalidArgument, "--schemes", "\(part) is none",
          remedy: "use " + all.map(\.rawValue).joined(separator: ", "))
      }
      return scheme
    }
    let carrier = try ProcessRanks.carrier(ranks) ?? ThreadCarrier(ranks: 2)
    let example = TensorParallelCase(
      shape: TensorParallelShape(
        inputs: inputs, hidden: hidden, outputs: outputs, groupSize: group, isGated: gated),
      carrier: carrier, schemes: chosen, counts: counts,
      threadsPerRank: carrier.threadsPerRank(of: common.threads),
      arithmetic: exact ? .exact : .fast, seed: seed)
    let result = try example.measure(rounds: rounds, comparesPlain: plain)
    common.finish(json(example, result), text: text(example, result))
  }

  private func json(_ example: TensorParallelCase, _ result: TensorParallelCase.Result) -> JSON {
    [
      "ranks": JSON(example.ranks),
      "carrier": .string(example.carrier is ThreadCarrier ? "threads" : "processes"),
      "threadsPerRank": JSON(example.threadsPerRank),
      "k": JSON(inputs), "hidden": JSON(hidden), "n": JSON(outputs), "group": JSON(group),
      "gated": .bool(gated), "arithmetic": .string(example.arithmetic.rawValue),
      "kernels": .string(InstructionSet.best.rawValue),
      "offline": [
        "seconds": JSON(result.offline.seconds), "peakBytes": JSON(result.offline.peakBytes),
        "blockBytes": JSON(result.offline.blockBytes),
      ],
      "plainDifference": result.plainDifference.map { JSON($0) } ?? .null,
      "cells": .array(
        result.cells.map { cell in
          [
            "scheme": .string(cell.scheme.rawValue), "m": JSON(cell.count),
            "microseconds": cell.microseconds.json, "ratioToTPAware": cell.ratios.json,
            "collectives": JSON(cell.counters.traffic.collectives),
            "bytesPerRank": JSON(cell.bytesPerRank),
            "gatheredElements": JSON(cell.counters.gatheredElements),
            "largestIntermediate": JSON(cell.counters.largestIntermediate),
            "groupSwitches": JSON(cell.counters.groupSwitches),
            "scaleBytes": JSON(cell.counters.scaleBytes),
            "equalToFirst": .bool(cell.isEqual), "difference": JSON(cell.difference),
          ]
        }),
    ]
  }

  private func text(_ example: TensorParallelCase, _ result: TensorParallelCase.Result) -> String {
    var lines = [
      "\(inputs) → \(hidden)\(gated ? " gated" : "") → \(outputs), groups of \(group), \(example.ranks) "
        + (example.carrier is ThreadCarrier ? "" : "processes as ")
        + "ranks of \(example.threadsPerRank) threads, \(example.arithmetic.rawValue), "
        + InstructionSet.best.rawValue,
      "offline pass \(fixed(result.offline.seconds, 2)) s, peak memory + "
        + "\(fixed(Double(result.offline.peakBytes) / 1e6, 0)) MB over a block of "
        + "\(fixed(Double(result.offline.blockBytes) / 1e6, 0)) MB",
      padded("scheme", 12, left: true) + padded("M", 4) + padded("µs", 30)
        + padded("of TP-aware", 22) + padded("collectives", 12) + padded("bytes a rank", 13)
        + padded("gathered", 10) + padded("switches", 9) + "  bits",
    ]
    for cell in result.cells {
      let bits = cell.isEqual ? "equal" : "off by \(cell.difference)"
      lines.append(
        padded(cell.scheme.rawValue, 12, left: true) + padded("\(cell.count)", 4)
          + padded(cell.microseconds.text(), 30)
          + padded(cell.ratios.samples.isEmpty ? "" : cell.ratios.text(decimals: 3), 22)
          + padded("\(cell.counters.traffic.collectives)", 12)
          + padded("\(cell.bytesPerRank)", 13)
          + padded("\(cell.counters.gatheredElements)", 10)
          + padded("\(cell.counters.groupSwitches)", 9) + "  " + bits)
    }
    for (scheme, bytes) in zip(example.schemes, result.weightBytes) {
      lines.append("packed weights of rank 0, \(scheme.rawValue): \(bytes) bytes")
    }
    if let difference = result.plainDifference {
      lines.append("largest difference from plain products on one rank: \(difference)")
    }
    return lines.joined(separator: "\n")
  }
}
