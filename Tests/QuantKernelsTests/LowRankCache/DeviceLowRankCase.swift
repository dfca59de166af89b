import DeviceModel
import TestSupport

@testable import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A decode step on a simulated GPU with random numbers, and its result by definition in float64 over
/// what the device holds.
struct DeviceLowRankCase: Sendable, CustomStringConvertible {
  var step: LowRankCase
  var positions: Int
  var firstPosition = 0

  init(
    heads: Int, queriesPerHead: Int = 1, width: Int, group: Int, rank: Int, positions: Int,
    firstPosition: Int = 0, style: VectorOperations.RotaryStyle = .halves, rotary: Int? = nil,
    bias: Bool = false, type: LatentType = .f16
  ) {
    step = LowRankCase(
      keyValueHeads: heads, queriesPerHead: queriesPerHead, headDimension: width,
      modelWidth: max(24, rank), headsPerGroup: group, rank: rank, mode: .rebuilt,
      rotaryDimension: rotary, style: style, hasBias: bias, keyType: type, valueType: type,
      seed: UInt64(rank * 1000 + positions))
    self.positions = positions
    self.firstPosition = firstPosition
  }

  var description: String { "\(step.testDescription), \(positions) from \(firstPosition)" }

  var tokens: [Float] { step.tokens(positions) }
  func latents(_ kind: LowRankFactors.Kind) throws -> [Float] { try step.inputs(kind, tokens) }

  func run(
    _ kernel: LowRankGPUKernel, on device: DeviceSpec = .rtx4090, checks: Bool = false,
    keys: [Float]? = nil, values: [Float]? = nil
  ) throws -> Run<[UInt16]> {
    try SimulatedLowRankAttention.run(
      kernel, factors: step.factors(), rotary: step.rotary, queries: step.queries(1),
      keyLatents: keys ?? latents(.key), valueLatents: values ?? latents(.value),
      keyType: step.keyType, valueType: step.valueType, firstPosition: firstPosition, on: device,
      simulator: WarpSimulator(checks: checks))
  }

  func shape() throws -> LowRankDecodeShape {
    try LowRankDecodeShape(
      positions: positions, firstPosition: firstPosition, queryHeads: step.queryHeads,
      keyValueHeads: step.keyValueHeads, headDimension: step.headDimension,
      headsPerGroup: step.headsPerGroup, keyRank: step.rank ?? 0, valueRank: step.rank ?? 0,
      keyType: step.keyType, valueType: step.valueType, rotaryDimension: step.shape.rotaryDimension)
  }

  static func half(_ x: Float) -> Double {
    Double(HalfPrecision.float(fromHalf: HalfPrecision.half(x)))
  }

  /// Latents as the device gives them back: rounded halves, or `m + s q` rounded to one.
  func stored(_ latents: [Float]) throws -> [Double] {
    guard step.keyType.isPacked else { return latents.map(Self.half) }
    let rank = step.rank ?? 0
    return try stride(from: 0, to: latents.count, by: rank).flatMap { first in
      try QuantizedLatent(Array(latents[first..<first + rank]), bits: step.keyType.bits).latents
        .map { Self.half(Float($0)) }
    }
  }

  /// softmax(q · rotate(B h + b)) · (B h + b), all of halves, in float64.
  func reference() throws -> [Double] {
    let factors = try step.factors().layers[0]
    let d = step.headDimension
    let s = step.headsPerGroup
    let rank = step.rank ?? 0
    func heads(_ groups: [LowRankFactors.Group], _ latents: [Double]) -> [Double] {
      var out: [Double] = []
      for position in 0..<positions {
        for (index, group) in groups.enumerated() {
          let first = (position * groups.count + index) * rank
          let up = group.up.map(Self.half)
          for row in 0..<s * d {
            var sum = Double(group.bias?[row] ?? 0)
            for latent in 0..<rank { sum += up[row * rank + latent] * latents[first + latent] }
            out.append(sum)
          }
        }
      }
      return out
    }
    var keys = heads(factors.keys, try stored(latents(.key)))
    let values = heads(factors.values, try stored(latents(.value)))
    let width = step.keyValueHeads * d
    for position in 0..<positions {
      for pair in 0..<step.shape.rotaryPairs {
        let angle =
          (step.rotary?.frequencies[pair] ?? 0) * Double(firstPosition + position)
        let (a, b) = step.shape.elements(ofPair: pair)
        for head in 0..<step.keyValueHeads {
          let at = position * width + head * d
          let (x, y) = (keys[at + a], keys[at + b])
          keys[at + a] = x * cos(angle) - y * sin(angle)
          keys[at + b] = y * cos(angle) + x * sin(angle)
        }
      }
    }
    let queries = step.queries(1).map(Self.half)
    let scale = 1 / Double(d).squareRoot()
    var out: [Double] = []
    for head in 0..<step.queryHeads {
      let shared = head / step.queriesPerHead * d
      var scores: [Double] = []
      for position in 0..<positions {
        var sum = 0.0
        for i in 0..<d { sum += queries[head * d + i] * keys[position * width + shared + i] }
        scores.append(scale * sum)
      }
      let top = scores.max() ?? 0
      let weights = scores.map { exp($0 - top) }
      let sum = weights.reduce(0, +)
      for element in 0..<d {
        var value = 0.0
        for position in 0..<positions {
          value += weights[position] * values[position * width + shared + element]
        }
        out.append(value / sum)
      }
    }
    return out
  }

  static func error(_ output: [UInt16], _ reference: [Double]) -> Double {
    relativeError(output.map(HalfPrecision.float(fromHalf:)), reference)
  }
}
