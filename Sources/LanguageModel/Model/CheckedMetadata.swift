import QuantKernels

/// Metadata of one architecture's prefix, read with bounds: what a hostile file states never
/// reaches arithmetic unchecked.
struct CheckedMetadata {
  let metadata: GGUFMetadata
  let prefix: String

  func invalid(_ key: String, _ problem: String) -> QuantError {
    QuantError(.invalidData, "\(prefix).\(key)", problem, remedy: "export the model again")
  }

  private func has(_ key: String) -> Bool { metadata.type(of: "\(prefix).\(key)") != nil }

  /// An integer within `range`; some files store one equal value a layer as an array, which is
  /// accepted.
  func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil)
    throws(QuantError) -> Int
  {
    let full = "\(prefix).\(key)"
    var value = metadata.integer(full)
    if value == nil, let list = metadata.integers(full), let first = list.first {
      guard list.allSatisfy({ $0 == first }) else {
        throw QuantError(
          .unsupported, full, "layers of different sizes", remedy: "use a model of equal layers")
      }
      value = first
    }
    guard let value else {
      if let fallback, !has(key) { return fallback }
      throw invalid(key, has(key) ? "the value is no integer" : "the value is missing")
    }
    guard range.contains(value) else {
      throw invalid(key, "\(value) is outside \(range.lowerBound)…\(range.upperBound)")
    }
    return value
  }

  /// A finite number within `range`.
  func float(_ key: String, in range: ClosedRange<Double>, default fallback: Double?)
    throws(QuantError) -> Double
  {
    let full = "\(prefix).\(key)"
    guard let value = metadata.float(full) ?? metadata.integer(full).map(Double.init) else {
      if let fallback, !has(key) { return fallback }
      throw invalid(key, has(key) ? "the value is no number" : "the value is missing")
    }
    guard value.isFinite, range.contains(value) else {
      throw invalid(key, "\(value) is outside \(range.lowerBound)…\(range.upperBound)")
    }
    return value
  }

  /// A soft cap; absent or zero means none.
  func softCap(_ key: String) throws(QuantError) -> Float? {
    let value = try float(key, in: 0...1e6, default: 0)
    return value > 0 ? Float(value) : nil
  }

  /// Which layers see a window only: a list of flags, or a period of which the last layer sees all,
  /// which is 6 where the file is silent.
  func localLayers(count: Int) throws(QuantError) -> [Bool] {
    let key = "attention.sliding_window_pattern"
    if let flags = metadata.bools("\(prefix).\(key)") {
      guard flags.count == count else {
        throw invalid(key, "\(flags.count) flags for \(count) layers")
      }
      return flags
    }
    let period = try integer(key, in: 1...1024, default: 6)
    return (0..<count).map { $0 % period < period - 1 }
  }

  /// Refuses a feature whose presence would silently change results.
  func refuse(_ key: String, unless harmless: Int, _ feature: String) throws(QuantError) {
    guard has(key) else { return }
    let value = metadata.integer("\(prefix).\(key)")
    guard value == harmless else {
      throw QuantError(
        .unsupported, "\(prefix).\(key)", "the decoder does not run \(feature)",
        remedy: "use a model without them")
    }
  }
}
