/// How panels are dealt to workers: the first parts are long forward streams, later ones ever
/// shorter, so that workers finish within about a panel of each other without cutting the streams
/// up.
///
/// A part takes one in `2 · threads` of the panels that are left (guided self-scheduling). Parts
/// are fixed ranges, handed out in order.
///
/// A few rows wait for memory, and a part that begins anew waits for its first lines and fetches some
/// kilobytes beyond its end: then a part takes one in `threads`, and 96 KiB at least, which are 2 µs
/// of a core's bandwidth (SmolLM2-135M on two Zen 5 cores decodes 1.1 to 1.25 times as fast; beside
/// another process about the same).
struct PanelSchedule {
  let panels: Int
  let threads: Int
  let parts: Int
  /// The fewest panels of a part; 0 where arithmetic binds.
  private let least: Int

  /// Rows up to which memory binds.
  static let fewRows = 4

  /// - Parameters:
  ///   - panels: of 16 outputs each.
  ///   - threads: the workers they are dealt to.
  ///   - rows: of activations, which multiply every panel.
  ///   - panelBytes: of weights.
  init(panels: Int, threads: Int, rows: Int, panelBytes: Int) {
    self.panels = panels
    self.threads = threads
    // Never more than a worker's share.
    least =
      rows > Self.fewRows
      ? 0
      : min(
        (Self.leastBytes + panelBytes - 1) / max(panelBytes, 1), (panels + threads - 1) / threads)
    var first = 0
    var parts = 0
    while first < panels {
      first += Self.length(left: panels - first, threads, least)
      parts += 1
    }
    self.parts = parts
  }

  private static let leastBytes = 96 << 10

  private static func length(left: Int, _ threads: Int, _ least: Int) -> Int {
    if threads == 1 { return left }
    if least == 0 { return max(1, left / (2 * threads)) }
    let length = max(least, (left + threads - 1) / threads)
    // What would be less than half of a part goes along.
    return left - length < (least + 1) / 2 ? left : length
  }

  /// The panels of a part. Complexity: O(parts), which are a few dozen.
  func range(of part: Int) -> Range<Int> {
    var first = 0
    for _ in 0..<part { first += Self.length(left: panels - first, threads, least) }
    return first..<first + Self.length(left: panels - first, threads, least)
  }
}
