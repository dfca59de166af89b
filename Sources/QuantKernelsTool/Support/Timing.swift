/// Repeated measurements of one thing, reported as median with the extremes.
struct Timing {
  private(set) var samples: [Double] = []

  init(_ samples: [Double] = []) { self.samples = samples.sorted() }

  mutating func add(_ sample: Double) {
    samples.append(sample)
    samples.sort()
  }

  /// The middle sample, or the mean of the two in the middle; NaN when there is none.
  var median: Double {
    guard !samples.isEmpty else { return .nan }
    let middle = samples.count / 2
    return samples.count % 2 == 1 ? samples[middle] : (samples[middle - 1] + samples[middle]) / 2
  }
  var minimum: Double { samples.first ?? .nan }
  var maximum: Double { samples.last ?? .nan }

  var json: JSON {
    [
      "median": JSON(median), "minimum": JSON(minimum), "maximum": JSON(maximum),
      "runs": JSON(samples.count),
    ]
  }

  /// `123.4 (120.1–130.2)`.
  func text(decimals: Int = 1) -> String {
    "\(fixed(median, decimals)) (\(fixed(minimum, decimals))–\(fixed(maximum, decimals)))"
  }
}

/// A decimal with a fixed number of places, without Foundation.
func fixed(_ value: Double, _ decimals: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var power = 1.0
  for _ in 0..<max(decimals, 0) { power *= 10 }
  let scaled = (abs(value) * power).rounded()
  let whole = (scaled / power).rounded(.down)
  let sign = value < 0 && scaled > 0 ? "-" : ""
  if decimals <= 0 { return sign + String(Int64(whole)) }
  let digits = String(Int64(scaled - whole * power))
  let padding = String(repeating: "0", count: max(0, decimals - digits.count))
  return sign + String(Int64(whole)) + "." + padding + digits
}

/// Text with its control characters spelled out, so that a terminal does not obey what a file
/// holds.
func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    if scalar.properties.generalCategory == .control {
      result += "\\u{" + String(scalar.value, radix: 16) + "}"
    } else {
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// Right- or left-aligned text of a table's cell.
func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
  let spaces = String(repeating: " ", count: max(0, width - text.count))
  return left ? text + spaces : spaces + text
}
