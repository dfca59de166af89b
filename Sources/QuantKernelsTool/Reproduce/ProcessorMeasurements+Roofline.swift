import QuantKernels

extension ProcessorMeasurements {
  /// Our kernels under this machine's roofs: operations a second against operations a byte.
  ///
  /// A multiply-add is two operations. Bytes are those that a kernel must move once: packed weights,
  /// activations and outputs of a product; keys, values, queries and outputs of an attention.
  func rooflineFigure() throws(QuantError) -> Figure {
    let products = try products().map { report -> PlotSeries.Point in
      let shape = report.shape
      let bytes =
        Double(report.weights.byteCount) + 4 * Double(shape.tokens)
        * Double(shape.inputs + shape.outputs)
      let operations =
        2 * Double(shape.tokens) * Double(shape.outputs) * Double(shape.inputs)
      let name = [1, 16, 512].contains(shape.tokens) ? "M = \(shape.tokens)" : nil
      return PlotSeries.Point(x: operations / bytes, y: 2 * report.gigaMACs, label: name)
    }
    var steps: [PlotSeries.Point] = []
    let positions = 4096
    for row in try decodeStep(over: positions).rows where row.name != "low-rank" {
      let operations = 4 * Double(positions) * 32 * 128
      let bytes = Double(row.bytesPerPosition * positions) + 8 * 32 * 128
      steps.append(
        PlotSeries.Point(
          x: operations / bytes, y: operations / row.microseconds.median * 1e-3, label: row.name))
    }
    let prompts = try promptAttention().map { report -> PlotSeries.Point in
      let attention = report.attention
      let bytes =
        report.result.keyValueBytes
        + 8 * Double(attention.queryLength * attention.heads * attention.headDimension)
      let name =
        attention.isCausal && attention.queryLength == Self.promptLengths.last
        ? "\(attention.queryLength)" : nil
      return PlotSeries.Point(
        x: attention.operations / bytes, y: report.gigaflops, label: name)
    }
    let read = samples.read.median
    let peaks = [
      ("int8 dot \(fixed(2 * samples.int8.median, 0)) Gop/s", 2 * samples.int8.median),
      ("float32 \(fixed(samples.float32.median, 0)) Gop/s", samples.float32.median),
    ]
    let points = products + steps + prompts
    let across = PlotAxis(
      "operations a byte", .logarithmic, covering: points.map(\.x) + peaks.map { $0.1 / read })
    let roofs = peaks.map { name, peak in
      PlotSeries(
        name, [(peak / read, peak), (across.range.upperBound, peak)], style: .reference)
    }
    let highest = peaks.map(\.1).max() ?? 1
    let slope = PlotSeries(
      "reads \(fixed(read, 1)) GB/s",
      [(across.range.lowerBound, across.range.lowerBound * read), (highest / read, highest)],
      style: .reference)
    let series =
      roofs + [
        slope, PlotSeries("int4 product, M = 1 … 512", products),
        PlotSeries("decode attention over \(positions)", steps, style: .points),
        PlotSeries("prompt attention, float32", prompts, style: .points),
      ]
    let plot = LinePlot(
      title: "roofline of this processor: Gop/s by operations a byte", x: across,
      y: PlotAxis(
        "Gop/s", .logarithmic,
        covering: points.map(\.y) + [highest, across.range.lowerBound * read]),
      series: series)
    let rows =
      Self.rows(products, names: Self.batches.map { "int4 product, M = \($0)" })
      + Self.rows(steps, names: steps.map { "decode over \(positions), \($0.label ?? "")" })
      + Self.rows(
        prompts,
        names: try promptAttention().map {
          "prompt of \($0.attention.queryLength)" + ($0.attention.isCausal ? ", causal" : "")
        })
    return Figure(
      "roofline", "Roofline of this processor", kinds: [.measured],
      note:
        "\(threads) thread\(threads == 1 ? "" : "s"), \(InstructionSet.best.rawValue). Roofs are medians of the samples "
        + "taken between the runs. A four-bit product may pass the int8 roof where its kernel widens "
        + "sums less often than the loop of the roof.",
      plot: plot, table: [["kernel", "operations a byte", "Gop/s"]] + rows,
      commands: [
        "quantkernels bench machine" + threadOption,
        "quantkernels reproduce --report report.html" + threadOption,
      ])
  }

  private static func rows(_ points: [PlotSeries.Point], names: [String]) -> [[String]] {
    zip(names, points).map { [$0, Figure.number($1.x), Figure.number($1.y)] }
  }
}
