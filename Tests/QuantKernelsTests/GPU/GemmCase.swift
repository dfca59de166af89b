import DeviceModel
import QuantKernels
import TestSupport

/// A layer and activations for the simulated products.
struct GemmCase {
  let matrix: Int4Matrix
  let x: [Float]

  /// Random codes and zero points, binary16 scales, activations that binary16 represents.
  init(
    count: Int, rows: Int, columns: Int, groupSize: Int, symmetric: Bool = false, seed: UInt64 = 1
  ) throws {
    var random = RepeatableRandom(seed: seed)
    let groups = rows * (columns / groupSize)
    func half(_ value: Float) -> Float { HalfPrecision.float(fromHalf: HalfPrecision.half(value)) }
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
    let zeros = (0..<groups).map { _ in UInt8.random(in: 0...15, using: &random) }
    let scales = (0..<groups).map { _ in half(.random(in: 0.005...0.02, using: &random)) }
    matrix = try Int4Matrix(
      rows: rows, columns: columns, groupSize: groupSize, codes: codes, scales: scales,
      offsets: symmetric ? .symmetric : .zeroPoints(zeros))
    x = random.normals(count * columns).map(half)
  }

  func run(
    _ kernel: GPUKernel, splits: Int = 1, simulator: WarpSimulator = WarpSimulator()
  ) throws -> Run<[Float]> {
    try matrix.matmul(x, on: .gpu(kernel: kernel, splits: splits, simulator: simulator))
  }
}

/// Bits of floats, so that a test compares them exactly.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

extension Counters {
  /// The site of this name, or the sum of those that begin with it and a comma.
  func site(_ name: String) -> Site {
    var total = Counters(sites: [name])
    for site in sites where site.name == name || site.name.hasPrefix(name + ",") {
      var one = Counters(sites: [])
      one.sites = [site]
      total.add(one)
    }
    return total.sites[0]
  }
}

extension GPUKernel {
  /// The kernels whose blocks share outputs along K, with weights that ``Int4DeviceWeights`` packs.
  static let splittingK: [GPUKernel] = [.awq, .quick, .quickImproved]
}
