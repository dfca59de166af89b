import QuantKernels

extension ProcessorMeasurements {
  private static func list(_ values: [Int]) -> String {
    values.map(String.init).joined(separator: " ")
  }

  private static func doubles(_ values: [Int]) -> [Double] { values.map(Double.init) }

  /// Speed of the int4 product against its batch.
  func batchFigure() throws(QuantError) -> Figure {
    let reports = try products()
    let batches = Self.doubles(Self.batches)
    let peak = samples.int8.median
    let points = reports.map { (x: Double($0.shape.tokens), y: $0.gigaMACs) }
    let plot = LinePlot(
      title: "int4 product on this processor: GMAC/s by rows of activations",
      x: PlotAxis("rows of activations, M", .logarithmic, covering: batches, ticks: batches),
      y: PlotAxis("GMAC/s", .linear, covering: points.map(\.y) + [peak]),
      series: [
        PlotSeries(
          "int8 dot peak", [(batches[0], peak), (batches[batches.count - 1], peak)],
          style: .reference),
        PlotSeries("int4, group 128", points),
      ])
    return Figure(
      "cpu-batch", "Speed against batch, this processor", kinds: [.measured],
      note:
        "M × \(Self.extent) × \(Self.extent), \(threads) thread\(threads == 1 ? "" : "s"); weights "
        + "come from memory up to \(MatmulCase.mostColdTokens) rows. Medians; the peak is that of a "
        + "loop of the dot instruction, which on AVX2 widens its sums more often than the kernels.",
      plot: plot,
      table: [
        ["M", "GMAC/s", "µs, median (min–max)", "of int8 peak", "of read bandwidth"]
      ]
        + reports.map { report in
          [
            "\(report.shape.tokens)", fixed(report.gigaMACs, 1), report.result.microseconds.text(),
            fixed(100 * report.shareOfInt8, 1) + " %", fixed(100 * report.shareOfRead, 1) + " %",
          ]
        },
      commands: [
        "for m in \(Self.list(Self.batches)); do "
          + Self.productCommand("int4", rows: "$m") + threadOption + "; done"
      ])
  }

  /// Time of one cold row against the bits of a weight.
  func bitsFigure() throws(QuantError) -> Figure {
    let reports = try coldRows()
    func bits(_ report: MatmulReport) -> Double {
      8 * Double(report.weights.byteCount)
        / (Double(report.shape.outputs) * Double(report.shape.inputs))
    }
    func microseconds(_ report: MatmulReport) -> Double { report.result.microseconds.median }
    let widest = reports.map(bits).max() ?? 16
    let bound = { (bits: Double) in
      bits * Double(Self.extent * Self.extent) / 8 / self.samples.read.median * 1e-3
    }
    let plot = LinePlot(
      title: "one cold row by weight format: microseconds by bits a weight",
      x: PlotAxis("bits a weight, scales counted", .linear, covering: [0, widest]),
      y: PlotAxis("µs", .linear, covering: reports.map(microseconds) + [bound(widest)]),
      series: [
        PlotSeries("reading alone", [(0, 0), (widest, bound(widest))], style: .reference),
        PlotSeries(
          "formats",
          reports.map {
            PlotSeries.Point(x: bits($0), y: microseconds($0), label: $0.weights.typeName)
          }, style: .points),
      ])
    return Figure(
      "cpu-bits", "Speed against bits, this processor", kinds: [.measured],
      note: "One row by \(Self.extent) × \(Self.extent) weights from memory, \(threads) "
        + "thread\(threads == 1 ? "" : "s"). The line is what reading the bytes takes.",
      plot: plot,
      table: [["format", "bits a weight", "µs, median (min–max)", "of read bandwidth"]]
        + reports.map {
          [
            $0.weights.typeName, fixed(bits($0), 2), $0.result.microseconds.text(),
            fixed(100 * $0.shareOfRead, 1) + " %",
          ]
        },
      commands: [
        "for f in \(Self.formats.joined(separator: " ")); do "
          + Self.productCommand("$f", rows: "1") + threadOption + "; done"
      ])
  }

  /// Time of a decode step against the positions it sees, by cache.
  func lengthFigure() throws(QuantError) -> Figure {
    let results = try Self.stepLengths.map { length throws(QuantError) in
      (length: length, result: try decodeStep(over: length))
    }
    let names = results.first?.result.rows.map(\.name) ?? []
    let series = names.enumerated().map { index, name in
      PlotSeries(
        name == "low-rank" ? "latents, 4 bits" : name,
        results.map { (x: Double($0.length), y: $0.result.rows[index].microseconds.median) })
    }
    let lengths = Self.doubles(Self.stepLengths)
    let times = series.flatMap(\.points).map(\.y)
    let plot = LinePlot(
      title: "a decode step's attention on this processor: microseconds by positions",
      x: PlotAxis(
        "positions of keys and values", .logarithmic, covering: lengths, ticks: lengths,
        numbers: .binary),
      y: PlotAxis("µs", .logarithmic, covering: times), series: series)
    return Figure(
      "cpu-length", "Decode attention against length, this processor", kinds: [.measured],
      note: "One query of 32 heads of 128 over 8 heads of keys and values from memory, \(threads) "
        + "thread\(threads == 1 ? "" : "s"), all caches in turn. Latents: keys rotated whole in 4 bits, "
        + "values in 4-bit latents of half the elements in groups of four heads.",
      plot: plot,
      table: [["positions", "cache", "bytes a position", "µs, median (min–max)"]]
        + results.flatMap { entry in
          entry.result.rows.map {
            ["\(entry.length)", $0.name, "\($0.bytesPerPosition)", $0.microseconds.text()]
          }
        },
      commands: [
        "for n in \(Self.list(Self.stepLengths)); do "
          + "quantkernels bench latent-attention --kv-length $n --beside f32,f16,q8_0,q4_0"
          + threadOption + "; done"
      ])
  }

  /// Time of a prompt's attention with and without tiles.
  func promptFigure() throws(QuantError) -> Figure {
    let reports = try promptAttention()
    let lengths = Self.doubles(Self.promptLengths)
    func points(
      _ isCausal: Bool, _ time: (AttentionReport) -> Double
    ) -> [(x: Double, y: Double)] {
      reports.filter { $0.attention.isCausal == isCausal }.map {
        (Double($0.attention.queryLength), time($0) * 1e-3)
      }
    }
    let tiled = { (report: AttentionReport) in report.result.rounds.microseconds.median }
    let unfused = { (report: AttentionReport) in report.result.unfused?.microseconds.median ?? .nan
    }
    let series = [
      PlotSeries("tiled, causal", points(true, tiled)),
      PlotSeries("unfused, causal", points(true, unfused)),
      PlotSeries("tiled, no mask", points(false, tiled)),
      PlotSeries("unfused, no mask", points(false, unfused)),
    ]
    let plot = LinePlot(
      title:
        "a prompt's attention on this processor, with tiles and without: milliseconds by length",
      x: PlotAxis(
        "queries and keys", .logarithmic, covering: lengths, ticks: lengths, numbers: .binary),
      y: PlotAxis("ms", .logarithmic, covering: series.flatMap(\.points).map(\.y)),
      series: series)
    return Figure(
      "cpu-prompt", "Prompt attention with and without tiles, this processor", kinds: [.measured],
      note: "\(Self.promptHeads) heads of 128 in float32, \(threads) "
        + "thread\(threads == 1 ? "" : "s"), both ways in turn.",
      plot: plot,
      commands: [
        "for n in \(Self.list(Self.promptLengths)); do "
          + Self.promptCommand("$n", isCausal: true) + threadOption + "; "
          + Self.promptCommand("$n", isCausal: false) + threadOption + "; done"
      ])
  }
}
