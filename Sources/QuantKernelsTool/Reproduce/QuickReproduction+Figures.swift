import DeviceModel
import QuantKernels

extension QuickReproduction {
  /// Modelled speeds on one device beside the published ones, and the banks of both kernels.
  var figures: [Figure] { [speedFigure] + Self.bankFigures(awq: awq, quick: quick) }

  private var speedFigure: Figure {
    let device = DeviceSpec.rtx4090
    let own = rows.filter { $0.cell.device.identifier == device.identifier }
    let batches = own.map { Double($0.cell.rows) }
    func modelled(_ name: String, _ time: (Times) -> Double) -> PlotSeries {
      PlotSeries(
        "\(name), modelled",
        own.map { row in
          (x: Double(row.cell.rows), y: Self.teraflops(row.cell.rows, time(row.plain)))
        })
    }
    func published(_ name: String, _ speed: (PublishedQuick.Cell) -> Double?) -> PlotSeries {
      PlotSeries(
        "\(name), published",
        own.map { (x: Double($0.cell.rows), y: speed($0.cell) ?? .nan) }, style: .points)
    }
    let series = [
      modelled("QUICK", \.quick), modelled("AWQ", \.awq), modelled("float16", \.half),
      published("QUICK", \.quick), published("AWQ", \.awq), published("float16", \.half),
    ]
    let plot = LinePlot(
      title: "QUICK, AWQ and float16 on an RTX 4090: TFLOP/s by rows of activations",
      x: PlotAxis("rows of activations, M", .logarithmic, covering: batches, ticks: batches),
      y: PlotAxis("TFLOP/s", .linear, covering: series.flatMap(\.points).map(\.y)), series: series)
    return Figure(
      "quick-batch", "Speed against batch, RTX 4090", kinds: [.modelled],
      note: "M × 8192 × 8192, no fitted constant; published: \(PublishedQuick.source).",
      plot: plot,
      commands: [
        "for k in quick awq fp16; do for m in "
          + own.map { "\($0.cell.rows)" }.joined(separator: " ")
          + "; do quantkernels simulate matmul --device rtx4090 --kernel $k --m $m --n 8192 --k 8192; "
          + "done; done"
      ])
  }

  private static func teraflops(_ rows: Int, _ microseconds: Double) -> Double {
    2 * Double(rows) * Double(PublishedQuick.outputs) * Double(PublishedQuick.inputs)
      / microseconds * 1e-6
  }

  /// Where the words of each access to shared memory lie.
  static func bankFigures(awq: SimulatedMatmul, quick: SimulatedMatmul) -> [Figure] {
    [("AWQ", "awq", awq), ("QUICK", "quick", quick)].map { name, kernel, product in
      let (rows, outputs, inputs) = product.shape
      let size = "--m \(rows) --n \(outputs) --k \(inputs)"
      return Figure(
        "banks-\(kernel)", "Banks of shared memory, \(name)",
        note: "One warp's access at each place in the kernel that touches shared memory, under the "
          + "documented rule: banks across, passes down. A number is words that one bank serves in a "
          + "pass; two or more are a conflict.",
        banks: BankHeatMap(
          title: "\(name), \(rows) × \(outputs) × \(inputs)", sites: product.counters.sites,
          policy: SimulateBanks.Policy.m1.rule),
        commands: [
          "quantkernels simulate matmul --device \(product.device.identifier) --kernel \(kernel) "
            + "\(size) --visualize \(kernel).svg"
        ])
    }
  }
}
