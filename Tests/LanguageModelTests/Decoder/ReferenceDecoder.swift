import Foundation
import LanguageModel
import QuantKernels

/// A decoder in float64, written from the models' papers as naively as can be: whole sequences, no
/// cache, no batches.
///
/// It shares nothing with the decoder under test but the reading of the file: metadata is read by
/// its own keys, weights by `GGMLBlocks.dequantize`, which has tests of its own.
///
/// With `rounds` every operation's result is rounded to float32, in ascending order of the index.
/// The difference between the two says how much float32 arithmetic can move this model's logits,
/// whatever the order of its sums.
struct ReferenceDecoder {
  let file: GGUFFile
  let rounds: Bool
  private let weights = Weights()

  /// Tensors that were dequantized already.
  private final class Weights {
    var values: [String: [Double]] = [:]
  }

  init(file: GGUFFile, rounds: Bool = false) {
    self.file = file
    self.rounds = rounds
  }

  private func r(_ x: Double) -> Double { rounds ? Double(Float(x)) : x }

  private var kind: String { file.metadata.string("general.architecture") ?? "" }

  private func integer(_ key: String, _ fallback: Int = 0) -> Int {
    file.metadata.integer("\(kind).\(key)") ?? fallback
  }

  private func float(_ key: String, _ fallback: Double) -> Double {
    file.metadata.float("\(kind).\(key)") ?? fallback
  }

  private func tensor(_ name: String) throws -> [Double]? {
    if let known = weights.values[name] { return known }
    guard let tensor = file.tensor(named: name), let type = tensor.type else { return nil }
    let values = try GGMLBlocks.dequantize(type, Array(file.bytes(of: tensor))).map(Double.init)
    weights.values[name] = values
    return values
  }

  private func product(_ weights: [Double], _ x: [Double]) -> [Double] {
    weights.withUnsafeBufferPointer { weights in
      x.withUnsafeBufferPointer { x in
        (0..<weights.count / x.count).map { row in
          var sum = 0.0
          var k = 0
          while k < x.count {
            sum = r(sum + r(weights[row * x.count + k] * x[k]))
            k += 1
          }
          return sum
        }
      }
    }
  }

  private func linear(_ name: String, _ x: [Double]) throws -> [Double] {
    let y = product(try tensor("\(name).weight") ?? [], x)
    guard let bias = try tensor("\(name).bias") else { return y }
    return zip(y, bias).map { r($0 + $1) }
  }

  private func norm(_ x: [Double], _ weight: [Double]?) -> [Double] {
    guard let weight else { return x }
    var sum = 0.0
    for value in x { sum = r(sum + r(value * value)) }
    let epsilon = float("attention.layer_norm_rms_epsilon", 0)
    let scale = r(1 / r(r(r(sum / Double(x.count)) + epsilon).squareRoot()))
    return zip(x, weight).map { r(r($0 * scale) * $1) }
  }

  /// Frequency of each pair and the common factor of cosine and sine.
  private func frequencies(head: Int, local: Bool) throws -> ([Double], Double) {
    let dimension = integer("rope.dimension_count", head)
    let base = local ? 10_000 : float("rope.freq_base", 10_000)
    var result = (0..<dimension / 2).map { pow(base, -Double(2 * $0) / Double(dimension)) }
    if local { return (result, 1) }
    if let divisors = try tensor("rope_freqs.weight") {
      result = zip(result, divisors).map { $0 / $1 }
    }
    let factor = float("rope.scaling.factor", 1)
    switch file.metadata.string("\(kind).rope.scaling.type") {
    case "linear": return (result.map { $0 / factor }, 1)
    case "yarn":
      let context = Double(integer("rope.scaling.original_context_length"))
      let pairs = [32.0, 1.0].map {
        Double(dimension) * log(context / ($0 * 2 * .pi)) / (2 * log(base))
      }
      let low = max(pairs[0].rounded(.down), 0)
      let high = min(pairs[1].rounded(.up), Double(dimension - 1))
      for i in result.indices {
        let interpolated = min(max((Double(i) - low) / max(high - low, 0.001), 0), 1)
        result[i] = result[i] / factor * interpolated + result[i] * (1 - interpolated)
      }
      return (result, 1 + 0.1 * log(factor))
    default: return (result, 1)
    }
  }

  private func rotated(_ x: [Double], position: Int, head: Int, local: Bool) throws -> [Double] {
    let (frequencies, magnitude) = try frequencies(head: head, local: local)
    var y = x
    for start in stride(from: 0, to: x.count, by: head) {
      for (i, frequency) in frequencies.enumerated() {
        let a = kind == "llama" ? start + 2 * i : start + i
        let b = kind == "llama" ? start + 2 * i + 1 : start + i + frequencies.count
        let cosine = r(cos(Double(position) * frequency) * magnitude)
        let sine = r(sin(Double(position) * frequency) * magnitude)
        y[a] = r(r(x[a] * cosine) - r(x[b] * sine))
        y[b] = r(r(x[a] * sine) + r(x[b] * cosine))
      }
    }
    return y
  }

  /// Logits after each token.
  func logits(_ tokens: [Int32]) throws -> [[Double]] {
    let width = integer("embedding_length")
    let heads = integer("attention.head_count")
    let keyHeads = integer("attention.head_count_kv", heads)
    let head = integer("attention.key_length", width / heads)
    let window = kind == "gemma3" ? integer("attention.sliding_window") : 0
    let embedding = try tensor("token_embd.weight") ?? []
    var stream = tokens.map { token in
      (0..<width).map { column -> Double in
        let value = embedding[Int(token) * width + column]
        return kind == "gemma3" ? r(value * r(Double(width).squareRoot())) : value
      }
    }
    for layer in 0..<integer("block_count") {
      let block = "blk.\(layer)"
      let local = window > 0 && layer % 6 != 5
      let queryNorm = try tensor("\(block).attn_q_norm.weight")
      let keyNorm = try tensor("\(block).attn_k_norm.weight")
      func heads(_ x: [Double], _ weight: [Double]?, _ position: Int) throws -> [Double] {
        let normed = stride(from: 0, to: x.count, by: head).flatMap {
          norm(Array(x[$0..<$0 + head]), weight)
        }
        return try rotated(normed, position: position, head: head, local: local)
      }
      let attentionNorm = try tensor("\(block).attn_norm.weight")
      let inputs = stream.map { norm($0, attentionNorm) }
      let keys = try inputs.enumerated().map {
        try heads(try linear("\(block).attn_k", $1), keyNorm, $0)
      }
      let values = try inputs.map { try linear("\(block).attn_v", $0) }
      for (position, input) in inputs.enumerated() {
        let queries = try heads(try linear("\(block).attn_q", input), queryNorm, position)
        let mixed = attention(
          queries, keys[...position], values[...position], head: head,
          group: queries.count / head / keyHeads,
          window: local ? window : 0)
        let subNormed = norm(mixed, try tensor("\(block).attn_sub_norm.weight"))
        var update = try linear("\(block).attn_output", subNormed)
        update = norm(update, try tensor("\(block).post_attention_norm.weight"))
        stream[position] = zip(stream[position], update).map { r($0 + $1) }
        let normed = norm(stream[position], try tensor("\(block).ffn_norm.weight"))
        let up = try linear("\(block).ffn_up", normed)
        var gated = zip(try linear("\(block).ffn_gate", normed), up).map {
          r(activation($0) * $1)
        }
        gated = norm(gated, try tensor("\(block).ffn_sub_norm.weight"))
        update = norm(
          try linear("\(block).ffn_down", gated), try tensor("\(block).post_ffw_norm.weight"))
        stream[position] = zip(stream[position], update).map { r($0 + $1) }
      }
    }
    let output = try tensor("output.weight") ?? embedding
    let outputNorm = try tensor("output_norm.weight")
    let cap = float("final_logit_softcapping", 0)
    return stream.map { x in
      product(output, norm(x, outputNorm)).map { cap > 0 ? r(cap * tanh($0 / cap)) : $0 }
    }
  }

  private func activation(_ x: Double) -> Double {
    if kind == "bitnet-b1.58" || kind == "bitnet-25" { return x > 0 ? r(x * x) : 0 }
    if kind != "gemma3" { return r(x / (1 + exp(-x))) }
    let inner = (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)
    return r(0.5 * x * (1 + tanh(inner)))
  }

  private func attention(
    _ queries: [Double], _ keys: ArraySlice<[Double]>, _ values: ArraySlice<[Double]>, head: Int,
    group: Int, window: Int
  ) -> [Double] {
    let cap = float("attn_logit_softcapping", 0)
    var output: [Double] = []
    for index in 0..<queries.count / head {
      let query = queries[index * head..<(index + 1) * head]
      let first = index / group * head
      let seen = window > 0 ? keys.suffix(window) : keys
      let scores = seen.map { key -> Double in
        var sum = 0.0
        for (q, k) in zip(query, key[first..<first + head]) { sum = r(sum + r(q * k)) }
        sum = r(sum * r(1 / Double(head).squareRoot()))
        return cap > 0 ? r(cap * tanh(sum / cap)) : sum
      }
      let top = scores.max() ?? 0
      let weights = scores.map { r(exp($0 - top)) }
      let total = weights.reduce(0) { r($0 + $1) }
      var mixed = [Double](repeating: 0, count: head)
      for (weight, value) in zip(weights, values.suffix(seen.count)) {
        for k in 0..<head { mixed[k] = r(mixed[k] + r(weight * value[first + k])) }
      }
      output += mixed.map { r($0 / total) }
    }
    return output
  }
}
