import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Rotary embeddings of `config.json` as GGUF's keys: `rope_theta` and `rope_scaling`, or the newer
/// `rope_parameters`.
///
/// Source of the kinds and their defaults: huggingface/transformers
/// `src/transformers/modeling_rope_utils.py`.
struct HuggingFaceRotary {
  /// Keys behind the architecture's prefix.
  private(set) var metadata: [(String, GGUFValue)] = []
  private(set) var divisors: [Float] = []

  /// Llama 3's parameters.
  struct Llama3: Equatable {
    var factor: Double
    var lowFrequencyFactor: Double
    var highFrequencyFactor: Double
    var originalContext: Int

    /// One divisor of each frequency: 1 for short waves, the factor for long ones, between them a
    /// ramp.
    func divisors(dimension: Int, base: Double) -> [Float] {
      (0..<dimension / 2).map { pair in
        let frequency = pow(base, -2 * Double(pair) / Double(dimension))
        let turns = Double(originalContext) * frequency / (2 * .pi)
        if turns > highFrequencyFactor { return 1 }
        if turns < lowFrequencyFactor { return Float(factor) }
        let smooth =
          (turns - lowFrequencyFactor) / max(highFrequencyFactor - lowFrequencyFactor, 1e-9)
        return Float(1 / ((1 - smooth) / factor + smooth))
      }
    }
  }

  init(
    _ file: ConfigurationFile, headDimension: Int, contextLength: Int, defaultBase: Double
  ) throws(QuantError) {
    let parameters = try file.object("rope_parameters")
    // Gemma 3 states one set for each kind of layer.
    let global = try parameters?.object("full_attention") ?? parameters
    let local = try parameters?.object("sliding_attention")
    /// A number of the file itself, or else of one of its sets.
    func number(
      _ key: String, _ other: ConfigurationFile?, _ otherKey: String
    ) throws(QuantError) -> Double? {
      file.has(key) ? try file.double(key) : try other?.double(otherKey)
    }
    let base = try number("rope_theta", global, "rope_theta") ?? defaultBase
    metadata.append(("rope.freq_base", .float32(Float(base))))
    if let localBase = try number("rope_local_base_freq", local, "rope_theta") {
      metadata.append(("rope.freq_base_swa", .float32(Float(localBase))))
    }
    if let local, let kind = try local.text("rope_type"), kind != "default" {
      throw local.unsupported("rope_type", "\(quoted(kind)) of local layers", "use 'default'")
    }
    let share = try number("partial_rotary_factor", global, "partial_rotary_factor") ?? 1
    guard share > 0, share <= 1 else {
      throw file.invalid("partial_rotary_factor", "is \(share), where 0…1 is wanted")
    }
    // A share such as 24/80 may come out a hair below the whole number that it stands for.
    let dimension = Int(Double(headDimension) * share + 1e-6)
    metadata.append(("rope.dimension_count", .uint32(UInt32(dimension))))
    guard let scaling = try file.object("rope_scaling") ?? global else { return }
    try readScaling(
      scaling, dimension: dimension, base: base, contextLength: contextLength)
  }

  private mutating func readScaling(
    _ scaling: ConfigurationFile, dimension: Int, base: Double, contextLength: Int
  ) throws(QuantError) {
    func positive(_ key: String, _ fallback: Double? = nil) throws(QuantError) -> Double {
      guard let value = try scaling.double(key) ?? fallback, value > 0 else {
        throw scaling.invalid(key, "is missing or not positive")
      }
      return value
    }
    func original() throws(QuantError) -> Int {
      let value =
        try scaling.integer("original_max_position_embeddings") ?? contextLength
      guard value >= 1, value <= 1 << 28 else {
        throw scaling.invalid("original_max_position_embeddings", "is \(value)")
      }
      return value
    }
    let kind = try scaling.text(scaling.has("rope_type") ? "rope_type" : "type") ?? "default"
    switch kind {
    case "default": break
    case "linear":
      metadata.append(("rope.scaling.type", .text("linear")))
      metadata.append(("rope.scaling.factor", .float32(Float(try positive("factor")))))
    case "llama3":
      let parameters = Llama3(
        factor: try positive("factor"), lowFrequencyFactor: try positive("low_freq_factor"),
        highFrequencyFactor: try positive("high_freq_factor"), originalContext: try original())
      divisors = parameters.divisors(dimension: dimension, base: base)
    case "yarn":
      let factor = try positive("factor")
      metadata.append(("rope.scaling.type", .text("yarn")))
      metadata.append(("rope.scaling.factor", .float32(Float(factor))))
      metadata.append(
        ("rope.scaling.original_context_length", .uint32(UInt32(try original()))))
      for (key, gguf) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
        if scaling.has(key) {
          metadata.append(("rope.scaling.\(gguf)", .float32(Float(try positive(key)))))
        }
      }
      if try scaling.bool("truncate") == false {
        throw scaling.unsupported("truncate", "the ramp's ends are rounded", "use true")
      }
      // GGUF's factor multiplies YaRN's own, which the checkpoint's replaces.
      let own = 1 + 0.1 * log(max(1, factor))
      var attention: Double?
      if scaling.has("attention_factor") {
        attention = try positive("attention_factor")
      } else if scaling.has("mscale"), scaling.has("mscale_all_dim") {
        func magnitude(_ scale: Double) -> Double {
          factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1
        }
        attention =
          magnitude(try positive("mscale")) / magnitude(try positive("mscale_all_dim"))
      }
      if let attention {
        metadata.append(("rope.scaling.attn_factor", .float32(Float(attention / own))))
      }
    default:
      throw scaling.unsupported(
        scaling.has("rope_type") ? "rope_type" : "type",
        "the decoder does not run the rotary scaling \(quoted(kind))",
        "use one of default, linear, llama3, yarn")
    }
  }
}
