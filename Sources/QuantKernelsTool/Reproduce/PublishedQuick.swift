import DeviceModel

/// QUICK's published kernel speeds: TFLOP/s of M × 8192 × 8192, of cuBLAS' float16, AutoAWQ's kernel
/// and QUICK's.
///
/// Source: the README's table and figure of SqueezeBits/QUICK. The table's row "RTX 4090, 128" is the
/// figure's 256, and its "L40, 128" mixes rows; the rows here are corrected by the figure.
enum PublishedQuick {
  static let outputs = 8192
  static let inputs = 8192
  static let group = 128
  static let rows = [1, 4, 8, 16, 32, 64, 128, 256]
  static let source = "SqueezeBits/QUICK README, table and figure"

  struct Cell {
    let device: DeviceSpec
    let rows: Int
    /// TFLOP/s; nil where the figure has no bar that can be read.
    let half: Double?
    let awq: Double
    let quick: Double

    /// µs of a speed.
    func microseconds(_ teraflop: Double) -> Double {
      2 * Double(rows) * Double(PublishedQuick.outputs) * Double(PublishedQuick.inputs) / teraflop
        / 1e6
    }
  }

  static let cells: [Cell] = devices.flatMap { device, values in
    zip(rows, values).map { rows, values in
      Cell(device: device, rows: rows, half: values.0, awq: values.1, quick: values.2)
    }
  }

  private static let devices: [(DeviceSpec, [(Double?, Double, Double)])] = [
    (
      .rtx4090,
      [
        (0.8, 3.11, 3.12), (3.6, 12.5, 12.4), (7.3, 24.3, 24.5), (14.2, 44.1, 47.8),
        (28.7, 73.5, 84.3), (56.4, 91.39, 111.99), (111.1, 100.0, 130.8), (138.2, 104.36, 138.59),
      ]
    ),
    (
      .a6000,
      [
        (0.7, 2.21, 2.28), (2.8, 8.9, 8.9), (5.4, 17.0, 17.5), (10.6, 30.8, 33.3),
        (22.2, 42.0, 57.4), (39.4, 44.85, 80.42), (81.7, 46.05, 83.62), (93.3, 46.6, 89.0),
      ]
    ),
    (
      .l40,
      [
        (0.7, 2.41, 2.51), (nil, 9.7, 10.0), (5.6, 19.1, 19.6), (10.7, 35.5, 38.3),
        (22.7, 62.1, 70.2), (44.4, 72.9, 97.73), (87.1, 64.28, 107.67), (148, 66.7, 117.8),
      ]
    ),
    (
      .a100x80,
      [
        (1.4, 2.94, 3.52), (6.1, 11.3, 13.4), (11.6, 21.7, 25.8), (22.6, 34.23, 48.14),
        (46.4, 48.83, 69.03), (91.9, 57.43, 76.31), (157.4, 58.46, 94.03), (202.2, 61.1, 107.9),
      ]
    ),
  ]
}
