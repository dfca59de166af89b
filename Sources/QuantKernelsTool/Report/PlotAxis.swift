#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// One axis of a plot: where a value lies on it, and which values it names.
struct PlotAxis {
  enum Scale { case linear, logarithmic }

  /// How values are written: 20000 as 20k, or 2048 as 2K of 1024.
  enum Numbers { case decimal, binary }

  let label: String
  let scale: Scale
  let numbers: Numbers
  let range: ClosedRange<Double>
  let ticks: [Double]

  /// More names than that run into one another: of given values, and of 1, 2 and 5 times powers of ten
  /// that one axis may also show upright.
  static let mostGiven = 10
  private static let mostTicks = 8

  /// An axis that covers some values.
  ///
  /// A linear one begins at zero, so that a bar twice as high is twice as much. Values that it cannot
  /// show (none, or not above zero on a logarithmic one) are left out of its range.
  ///
  /// - Parameter ticks: the values to name, where they are few and given, such as batches.
  init(
    _ label: String, _ scale: Scale, covering values: [Double], ticks wanted: [Double]? = nil,
    numbers: Numbers = .decimal
  ) {
    self.label = label
    self.scale = scale
    self.numbers = numbers
    let seen = values.filter { $0.isFinite && (scale == .linear || $0 > 0) }
    let least = seen.min() ?? 1
    let most = seen.max() ?? 10
    switch scale {
    case .linear:
      let low = min(0, least)
      let step = Self.step((max(most, low + 1e-12) - low) / 4)
      let first = (low / step).rounded(.down)
      let last = max(first + 1, (most / step).rounded(.up))
      range = first * step...last * step
      ticks = wanted ?? (0...Int(last - first)).map { (first + Double($0)) * step }
    case .logarithmic:
      let extent: ClosedRange<Double>
      if let wanted {
        // Room for markers at both ends.
        let margin = 1 + 0.04 * log(max(2, most / least))
        extent = least / margin...most * margin
        let inside = wanted.filter { extent.contains($0) }
        let stride = max(1, (inside.count + Self.mostGiven - 1) / Self.mostGiven)
        ticks = inside.enumerated().filter { $0.offset % stride == 0 }.map(\.element)
      } else {
        let names = Self.decades(least, most)
        let low = names.last { $0 <= least } ?? least
        let high = names.first { $0 >= most && $0 > low } ?? 10 * low
        extent = low...high
        ticks = Self.thinned(names.filter { extent.contains($0) })
      }
      range = extent
    }
  }

  /// 1, 2 or 5 times a power of ten, at least a value.
  private static func step(_ value: Double) -> Double {
    let power = pow(10, floor(log10(value)))
    for factor in [1.0, 2, 5] where factor * power >= value * 0.999 { return factor * power }
    return 10 * power
  }

  /// 1, 2 and 5 times the powers of ten around two values.
  private static func decades(_ least: Double, _ most: Double) -> [Double] {
    let first = Int(floor(log10(least))) - 1
    let last = max(first, Int(log10(most).rounded(.up)) + 1)
    return (first...last).flatMap { power in [1.0, 2, 5].map { $0 * pow(10, Double(power)) } }
  }

  /// Powers of ten alone where there would be too many names.
  private static func thinned(_ names: [Double]) -> [Double] {
    guard names.count > mostTicks else { return names }
    let tens = names.filter { abs(log10($0) - log10($0).rounded()) < 1e-9 }
    let stride = max(1, (tens.count + mostTicks - 1) / mostTicks)
    return tens.enumerated().filter { $0.offset % stride == 0 }.map(\.element)
  }

  /// From 0 at the axis' beginning to 1 at its end; nil for what it cannot show.
  func fraction(_ value: Double) -> Double? {
    guard value.isFinite, scale == .linear || value > 0 else { return nil }
    let part =
      scale == .linear
      ? (value - range.lowerBound) / (range.upperBound - range.lowerBound)
      : log(value / range.lowerBound) / log(range.upperBound / range.lowerBound)
    return part.isFinite ? part : nil
  }

  /// A value's name.
  func name(_ value: Double) -> String {
    if numbers == .binary, value >= 1024, value.truncatingRemainder(dividingBy: 1024) == 0 {
      return "\(Int(value / 1024))K"
    }
    return Self.short(value)
  }

  /// A number in few characters.
  static func short(_ value: Double) -> String {
    let size = abs(value)
    if size >= 1e6 { return trimmed(value / 1e6, 1) + "M" }
    if size >= 1e4 { return trimmed(value / 1e3, 1) + "k" }
    if size >= 100 { return fixed(value, 0) }
    if size >= 1 || value == 0 { return trimmed(value, 2) }
    return trimmed(value, 4)
  }

  /// A decimal without the zeros at its end.
  private static func trimmed(_ value: Double, _ decimals: Int) -> String {
    var text = fixed(value, decimals)
    guard text.contains(".") else { return text }
    while text.hasSuffix("0") { text.removeLast() }
    if text.hasSuffix(".") { text.removeLast() }
    return text
  }
}
