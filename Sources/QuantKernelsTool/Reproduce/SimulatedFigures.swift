import DeviceModel
import QuantKernels

extension TensorParallelReproduction {
  /// Modelled gain over naive by ranks.
  var figure: Figure {
    let ranks = gains.first?.points.map { Double($0.ranks) } ?? []
    let series = gains.map { gain in
      PlotSeries(gain.name, gain.points.map { (x: Double($0.ranks), y: $0.ratio) })
    }
    let plot = LinePlot(
      title: "TP-aware against naive: times as fast, by devices",
      x: PlotAxis("devices, T", .logarithmic, covering: ranks, ticks: ranks),
      y: PlotAxis("times as fast", .linear, covering: series.flatMap(\.points).map(\.y)),
      series: series)
    return Figure(
      "tp-ranks", "Gain over naive against devices", kinds: [.modelled],
      note:
        "A feed-forward block in act-order, int4, M = \(Self.gainRows). The published maxima, 1.81 "
        + "and 1.78, are of settings that are not.",
      plot: plot,
      commands: [
        "for d in dgx-a100 dgx-h100; do for b in llama-70b granite-20b; do for t in 1 2 4 8; do for s in "
          + "naive tp-aware; do quantkernels simulate tensor-parallel --device $d --model $b --ranks $t "
          + "--m \(Self.gainRows) --scheme $s; done; done; done; done"
      ])
  }
}

extension PaluReproduction {
  /// Modelled speed over dense by positions.
  var lengthFigure: Figure {
    let lengths = Self.lengths.map(Double.init)
    let series = curves.map { curve in
      PlotSeries(curve.name, zip(lengths, curve.ratios).map { (x: $0, y: $1) })
    }
    let plot = LinePlot(
      title: "Palu against dense attention on an RTX 4090: times as fast, by positions",
      x: PlotAxis(
        "positions of keys and values", .logarithmic, covering: lengths, ticks: lengths,
        numbers: .binary),
      y: PlotAxis(
        "times as fast as dense", .linear, covering: series.flatMap(\.points).map(\.y) + [1]),
      series: series + [
        PlotSeries(
          "dense", [(lengths.first ?? 1, 1), (lengths.last ?? 1, 1)], style: .reference)
      ])
    return Figure(
      "palu-length", "Palu against length, RTX 4090", kinds: [.modelled],
      note: "Llama-2-7B's attention module with RoPE at batch 1, projections and copied caches "
        + "included as in the paper's script, 16-bit latents in groups of four heads.",
      plot: plot,
      commands: [
        Self.moduleLoop("k in dense palu palu-group", "n in \(Self.list)", "$k", "$n", bits: "16"),
        Self.moduleLoop(
          "k in dense palu", "n in \(Self.list)", "$k", "$n", ranks: (256, 256), bits: "16"),
      ])
  }

  /// Modelled speed over dense by bits of a latent.
  static func bitsFigure(_ points: [(bits: Int, rotary: Double, plain: Double)]) -> Figure {
    let series = [
      PlotSeries("RoPE, keys rebuilt", points.map { (x: Double($0.bits), y: $0.rotary) }),
      PlotSeries("no RoPE", points.map { (x: Double($0.bits), y: $0.plain) }),
    ]
    let bits = points.map { Double($0.bits) }
    let plot = LinePlot(
      title: "Palu against dense attention on an RTX 4090: times as fast, by bits of a latent",
      x: PlotAxis("bits of a latent", .logarithmic, covering: bits, ticks: bits.reversed()),
      y: PlotAxis(
        "times as fast as dense", .linear, covering: series.flatMap(\.points).map(\.y)),
      series: series)
    let longest = lengths.last ?? 0
    return Figure(
      "palu-bits", "Palu against bits, RTX 4090", kinds: [.modelled],
      note:
        "The paper's kernel over \(longest) positions, half of the ranks, module and copied caches "
        + "as above; dense is in 16 bits.",
      plot: plot,
      commands: [
        moduleLoop("b in 16 4 3 2", nil, "palu", "\(longest)", bits: "$b"),
        moduleLoop("b in 16 4 3 2", nil, "palu", "\(longest)", bits: "$b --no-rotary"),
        moduleLoop("r in '' --no-rotary", nil, "dense", "\(longest)", bits: "16 $r"),
      ])
  }

  private static var list: String { lengths.map(String.init).joined(separator: " ") }

  private static func moduleLoop(
    _ outer: String, _ inner: String?, _ kernel: String, _ length: String,
    ranks: (keys: Int, values: Int) = (128, 384), bits: String
  ) -> String {
    let command =
      "quantkernels simulate low-rank --device rtx4090 --kernel \(kernel) --kv-length \(length) "
      + "--heads 32 --head-dim 128 --key-rank \(ranks.keys) --value-rank \(ranks.values) --bits \(bits) --model-width 4096 "
      + "--concatenate"
    guard let inner else { return "for \(outer); do \(command); done" }
    return "for \(outer); do for \(inner); do \(command); done; done"
  }
}

extension NPUAttentionReproduction {
  /// Modelled times of fused and unfused kernels by length.
  var figure: Figure {
    let causal = rows.filter(\.isCausal)
    let tooLong = causal.first { $0.scoreBytes > NPUSpec.ascend910b2.memoryBytes.value }?.length
    let lengths = causal.map { Double($0.length) }
    func points(_ time: (Row) -> Double) -> [(x: Double, y: Double)] {
      causal.map { (x: Double($0.length), y: time($0) * 1e-3) }
    }
    let series = [
      PlotSeries("two-level, fused", points(\.twoLevel)),
      PlotSeries("unified, fused", points(\.unified)),
      PlotSeries("standard, one pass", points(\.unfused)),
      PlotSeries("standard, passes apart", points(\.separate)),
    ]
    let plot = LinePlot(
      title: "attention on an Ascend 910B2: milliseconds by length",
      x: PlotAxis(
        "queries and keys", .logarithmic, covering: lengths, ticks: lengths, numbers: .binary),
      y: PlotAxis("ms", .logarithmic, covering: series.flatMap(\.points).map(\.y)), series: series)
    return Figure(
      "npu-length", "Fused and unfused attention against length, Ascend 910B2", kinds: [.modelled],
      note: "\(Self.heads) heads of \(Self.width), causal."
        + (tooLong.map {
          " Standard attention stores its scores, which from \($0) on exceed the memory."
        } ?? ""),
      plot: plot,
      commands: [
        "for k in two-level unified unfused; do for n in "
          + causal.map { "\($0.length)" }.joined(separator: " ")
          + "; do quantkernels simulate attention --device ascend910b2 --kernel $k --query-length $n "
          + "--kv-length $n --heads \(Self.heads) --head-dim \(Self.width) --causal; done; done",
        "quantkernels reproduce --only fast-attention --report report.html",
      ])
  }
}

extension VoltaReproduction {
  /// Modelled gains by length.
  var figure: Figure {
    let lengths = curves.first?.points.map { Double($0.length) } ?? []
    let series = curves.map { curve in
      PlotSeries(curve.name, curve.points.map { (x: Double($0.length), y: $0.ratio) })
    }
    let plot = LinePlot(
      title: "FastAttention's kernel on a V100: times as fast as others, by length",
      x: PlotAxis(
        "queries and keys", .logarithmic, covering: lengths, ticks: lengths, numbers: .binary),
      y: PlotAxis("times as fast", .linear, covering: series.flatMap(\.points).map(\.y)),
      series: series)
    return Figure(
      "volta-length", "Gains against length, V100", kinds: [.modelled],
      note: "32 heads, causal; published against xformers: 1.43 for d = 128 at most, 1.03–1.17 for "
        + "d = 64.",
      plot: plot,
      commands: [
        "for d in 128 64; do for k in volta xformers unfused; do for n in "
          + lengths.map { fixed($0, 0) }.joined(separator: " ")
          + "; do quantkernels simulate attention --device v100 --kernel $k --query-length $n --kv-length "
          + "$n --heads 32 --head-dim $d --causal; done; done; done"
      ])
  }
}
