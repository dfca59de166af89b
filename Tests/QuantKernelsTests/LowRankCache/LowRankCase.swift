import QuantKernels
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A layer with random factors, tokens for it, and its attention by definition in float64.
struct LowRankCase: Sendable, CustomTestStringConvertible {
  var keyValueHeads = 2
  var queriesPerHead = 2
  var headDimension = 16
  var modelWidth = 40
  var headsPerGroup = 2
  /// Latents of a group; nil: full rank, where the factors' product is exactly `dense`.
  var rank: Int?
  var mode = LowRankFactors.KeyMode.rebuilt
  var rotaryDimension: Int?
  var style = VectorOperations.RotaryStyle.halves
  var hasBias = false
  var keyType = LatentType.f32
  var valueType = LatentType.f32
  var window: Int?
  var softCap: Float?
  var seed: UInt64 = 11

  var testDescription: String {
    "\(mode) \(keyValueHeads)×\(queriesPerHead)×\(headDimension) s\(headsPerGroup) r\(rank ?? -1) "
      + "\(keyType.rawValue)/\(valueType.rawValue) rotary \(rotaryDimension ?? -1) \(style)"
      + "\(hasBias ? " bias" : "")\(window.map { " window \($0)" } ?? "")"
  }

  var queryHeads: Int { keyValueHeads * queriesPerHead }
  var queryWidth: Int { queryHeads * headDimension }
  var shape: LowRankFactors.Shape {
    LowRankFactors.Shape(
      layers: 1, queryHeads: queryHeads, keyValueHeads: keyValueHeads,
      headDimension: headDimension, modelWidth: modelWidth,
      rotaryDimension: rotaryDimension ?? headDimension, rotaryStyle: style)
  }
  var rotary: LowRankLayer.Rotary? {
    shape.rotaryDimension == 0 ? nil : LowRankLayer.Rotary(dimension: shape.rotaryDimension)
  }
  var options: AttentionOptions {
    AttentionOptions(
      scale: 1 / Float(headDimension).squareRoot(), window: window, softCap: softCap)
  }

  // MARK: Factors

  private var groupWidth: Int { headsPerGroup * headDimension }

  /// The dense projection of a group, `[s·d_h × d]`, of entries that make keys of about unit size.
  func dense(_ kind: LowRankFactors.Kind, group: Int) -> [Double] {
    var random = RepeatableRandom(
      seed: seed &+ UInt64(group) &* 2 &+ (kind == .key ? 0 : 1) &+ 1000)
    let scale = 1 / Double(modelWidth).squareRoot()
    return random.normals(groupWidth * modelWidth).map { Double($0) * scale }
  }

  private func group(_ kind: LowRankFactors.Kind, _ index: Int) throws -> LowRankFactors.Group {
    let width = groupWidth
    var random = RepeatableRandom(seed: seed &+ UInt64(index) &+ (kind == .key ? 77 : 99))
    let bias = hasBias ? random.normals(width) : nil
    if kind == .key, mode == .commuting { return commutingGroup(&random) }
    let rank = rank ?? width
    if self.rank == nil {
      // A = R W, B = Rᵀ with an orthogonal R.
      let rotation = try HadamardRotation(rank: width)
      var down = dense(kind, group: index)
      var up = (0..<width * width).map { $0 / width == $0 % width ? 1.0 : 0.0 }
      try rotation.fold(into: &down, &up)
      return LowRankFactors.Group(
        rank: width, down: down.map(Float.init), up: up.map(Float.init), bias: bias)
    }
    let scale = 1 / Float(rank).squareRoot()
    return LowRankFactors.Group(
      rank: rank,
      down: random.normals(rank * modelWidth).map { $0 / Float(modelWidth).squareRoot() },
      up: random.normals(width * rank).map { $0 * scale }, bias: bias)
  }

  /// Every frequency, and what stands still, gets as many complex latents as there are heads, or in
  /// turn until the rank is spent.
  private func commutingGroup(_ random: inout RepeatableRandom) -> LowRankFactors.Group {
    let width = groupWidth
    let pairs = shape.rotaryPairs
    let still = shape.pairOfElement.filter { $0 == pairs }.count
    var frequencies = (0..<headsPerGroup).flatMap { _ in Array(0..<pairs) }
    frequencies += [Int](repeating: pairs, count: headsPerGroup * ((still + 1) / 2))
    if let rank { frequencies = Array(frequencies.prefix(rank / 2)) }
    let rank = 2 * frequencies.count
    var up = [Float](repeating: 0, count: width * rank)
    // Keys of about unit size, as of the other modes: an element takes two numbers of each latent.
    let scale = 1 / Float(2 * headsPerGroup).squareRoot()
    for head in 0..<headsPerGroup {
      for (latent, frequency) in frequencies.enumerated() {
        if frequency == pairs {
          for element in 0..<headDimension where shape.pairOfElement[element] == pairs {
            up[(head * headDimension + element) * rank + 2 * latent] = random.normals(1)[0]
            up[(head * headDimension + element) * rank + 2 * latent + 1] = random.normals(1)[0]
          }
          continue
        }
        let (a, b) = shape.elements(ofPair: frequency)
        let c = random.normals(2).map { $0 * scale }
        up[(head * headDimension + a) * rank + 2 * latent] = c[0]
        up[(head * headDimension + a) * rank + 2 * latent + 1] = -c[1]
        up[(head * headDimension + b) * rank + 2 * latent] = c[1]
        up[(head * headDimension + b) * rank + 2 * latent + 1] = c[0]
      }
    }
    return LowRankFactors.Group(
      rank: rank,
      down: random.normals(rank * modelWidth).map { $0 / Float(modelWidth).squareRoot() }, up: up,
      latentBias: hasBias ? random.normals(rank) : nil, frequencies: frequencies)
  }

  func factors() throws -> LowRankFactors {
    let groups = 0..<keyValueHeads / headsPerGroup
    return try LowRankFactors(
      shape: shape, headsPerGroup: headsPerGroup, keyMode: mode, bits: 4, isRotated: false,
      layers: [
        LowRankFactors.Layer(
          keys: mode == .rotated ? [] : try groups.map { try group(.key, $0) },
          values: try groups.map { try group(.value, $0) })
      ])
  }

  func layer() throws -> LowRankLayer {
    try LowRankLayer(try factors(), layer: 0, rotary: rotary)
  }

  // MARK: Tokens

  func tokens(_ count: Int) -> [Float] {
    var random = RepeatableRandom(seed: seed &+ 5)
    return random.normals(count * modelWidth)
  }

  func queries(_ count: Int) -> [Float] {
    var random = RepeatableRandom(seed: seed &+ 6)
    return random.normals(count * queryWidth)
  }

  /// `matrix · x` for each token, `[tokens × rows]`.
  static func project(_ matrix: [Double], _ tokens: [Float], width: Int) -> [Double] {
    let rows = matrix.count / width
    var out = [Double](repeating: 0, count: tokens.count / width * rows)
    for token in 0..<tokens.count / width {
      for row in 0..<rows {
        var sum = 0.0
        for i in 0..<width { sum += matrix[row * width + i] * Double(tokens[token * width + i]) }
        out[token * rows + row] = sum
      }
    }
    return out
  }

  /// Numbers a token brings to the cache, `[tokens × Σ]`: latents, or keys after the rotary
  /// embedding.
  func inputs(_ kind: LowRankFactors.Kind, _ tokens: [Float], first: Int = 0) throws -> [Float] {
    let count = tokens.count / modelWidth
    if kind == .key, mode == .rotated {
      return denseHeads(.key, tokens, first: first).map(Float.init)
    }
    let groups = try factors().layers[0][kind].map {
      Self.project($0.down.map(Double.init), tokens, width: modelWidth)
    }
    return (0..<count).flatMap { token in
      groups.flatMap { group in
        let rank = group.count / count
        return group[token * rank..<(token + 1) * rank].map(Float.init)
      }
    }
  }

  /// Keys after the rotary embedding or values of all heads, `[tokens × heads · d_h]`, by the dense
  /// projection.
  func denseHeads(
    _ kind: LowRankFactors.Kind, _ tokens: [Float], first: Int = 0
  ) -> [Double] {
    let count = tokens.count / modelWidth
    var out = [Double](repeating: 0, count: count * keyValueHeads * headDimension)
    for group in 0..<keyValueHeads / headsPerGroup {
      let part = Self.project(dense(kind, group: group), tokens, width: modelWidth)
      for token in 0..<count {
        for i in 0..<groupWidth {
          out[token * keyValueHeads * headDimension + group * groupWidth + i] =
            part[token * groupWidth + i]
        }
      }
    }
    return kind == .key ? turned(out, first: first) : out
  }

  /// Heads rebuilt from latents, `B h + bias`, keys turned by their positions.
  func rebuilt(
    _ kind: LowRankFactors.Kind, _ latents: [Double], first: Int = 0
  ) throws -> [Double] {
    let groups = try factors().layers[0][kind]
    let sum = groups.reduce(0) { $0 + $1.rank }
    let count = latents.count / sum
    var out = [Double](repeating: 0, count: count * keyValueHeads * headDimension)
    for token in 0..<count {
      var column = token * sum
      for (index, group) in groups.enumerated() {
        for row in 0..<groupWidth {
          var value = Double(group.bias?[row] ?? 0)
          for i in 0..<group.rank {
            value +=
              Double(group.up[row * group.rank + i])
              * (latents[column + i] + Double(group.latentBias?[i] ?? 0))
          }
          out[token * keyValueHeads * headDimension + index * groupWidth + row] = value
        }
        column += group.rank
      }
    }
    return kind == .key ? turned(out, first: first) : out
  }

  private func turned(_ keys: [Double], first: Int) -> [Double] {
    var keys = keys
    let width = keyValueHeads * headDimension
    for token in 0..<keys.count / width {
      for pair in 0..<shape.rotaryPairs {
        let angle = (rotary?.frequencies[pair] ?? 0) * Double(first + token)
        let (a, b) = shape.elements(ofPair: pair)
        for head in 0..<keyValueHeads {
          let at = token * width + head * headDimension
          let x = keys[at + a]
          let y = keys[at + b]
          keys[at + a] = x * cos(angle) - y * sin(angle)
          keys[at + b] = y * cos(angle) + x * sin(angle)
        }
      }
    }
    return keys
  }

  /// Attention of queries at `positions` over keys and values of `[tokens × heads · d_h]`.
  func attention(
    _ queries: [Float], positions: Range<Int>, keys: [Double], values: [Double]
  ) -> [Double] {
    let width = keyValueHeads * headDimension
    var out: [Double] = []
    for (row, position) in positions.enumerated() {
      for head in 0..<queryHeads {
        let shared = head / queriesPerHead * headDimension
        let low = window.map { max(0, position - $0 + 1) } ?? 0
        var scores: [Double] = []
        for key in low...position {
          var score = 0.0
          for i in 0..<headDimension {
            score +=
              Double(queries[row * queryWidth + head * headDimension + i])
              * keys[key * width + shared + i]
          }
          score *= Double(options.scale)
          if let softCap { score = Double(softCap) * tanh(score / Double(softCap)) }
          scores.append(score)
        }
        let top = scores.max() ?? 0
        let weights = scores.map { exp($0 - top) }
        let sum = weights.reduce(0, +)
        for i in 0..<headDimension {
          var value = 0.0
          for (index, weight) in weights.enumerated() {
            value += weight * values[(low + index) * width + shared + i]
          }
          out.append(value / sum)
        }
      }
    }
    return out
  }

  // MARK: What the package computes

  func cache(
    _ layer: LowRankLayer, capacity: Int, instructionSet: InstructionSet = .best
  ) throws -> LowRankCache {
    try LowRankCache(
      layer: layer, keyType: keyType, valueType: valueType, capacity: capacity,
      instructionSet: instructionSet)
  }

  func run(
    _ cache: LowRankCache, _ queries: [Float], first: Int, threads: Int = 1,
    arithmetic: LowRankAttention.Arithmetic = .digits, workspace: LowRankWorkspace? = nil
  ) throws -> [Float] {
    let count = queries.count / queryWidth
    var output = [Float](repeating: .nan, count: queries.count)
    try queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try LowRankAttention.run(
          queries: queries, count: count, firstPosition: first, cache: cache, options: options,
          arithmetic: arithmetic, output: output,
          workspace: workspace
            ?? LowRankWorkspace(instructionSet: cache.pool.instructionSet),
          pool: WorkerPool(threads: threads))
      }
    }
    return output
  }

  /// The numbers that the cache holds of a kind, as heads: of whole keys turned back, of commuting
  /// latents read as they are.
  func storedHeads(_ kind: LowRankFactors.Kind, _ cache: LowRankCache) throws -> [Double] {
    var latents: [Double] = []
    for position in 0..<cache.count {
      latents += try cache.latents(kind, position: position).map(Double.init)
    }
    guard kind == .key else { return try rebuilt(.value, latents) }
    switch mode {
    case .rebuilt: return try rebuilt(.key, latents)
    case .rotated:
      let rotation = try HadamardRotation(rank: headDimension)
      var scratch = [Double](repeating: 0, count: headDimension)
      latents.withUnsafeMutableBufferPointer { latents in
        for start in stride(from: 0, to: latents.count, by: headDimension) {
          rotation.apply(latents.baseAddress! + start, scratch: &scratch)
        }
      }
      return latents
    case .commuting:
      // B of what is stored, bias and turn in it.
      var plain = self
      plain.hasBias = false
      var still = try plain.factors().layers[0].keys
      let biased = try factors().layers[0].keys
      for index in still.indices { still[index].up = biased[index].up }
      let sum = still.reduce(0) { $0 + $1.rank }
      var out: [Double] = []
      for token in 0..<cache.count {
        var column = token * sum
        for group in still {
          for row in 0..<groupWidth {
            var value = 0.0
            for i in 0..<group.rank {
              value += Double(group.up[row * group.rank + i]) * latents[column + i]
            }
            out.append(value)
          }
          column += group.rank
        }
      }
      return out
    }
  }
}

/// ‖a − b‖ / ‖b‖, or of something else that rounding is a share of.
func relativeError(
  _ found: some Collection<Float>, _ expected: [Double], to size: [Double]? = nil
) -> Double {
  var difference = 0.0
  for (x, y) in zip(found, expected) { difference += (Double(x) - y) * (Double(x) - y) }
  return (difference / (size ?? expected).reduce(0) { $0 + $1 * $1 }).squareRoot()
}
