import Benchmark
import QuantKernels

// One benchmark a line of the shape files, and decode steps of attention. A sample is one product or step on warm
// weights with every processor; `quantkernels bench matmul` takes cold ones and the share of the machine's limits.
let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.wallClock, .throughput], warmupIterations: 2, maxDuration: .milliseconds(500),
    // Shared machines vary by this much: a smoke gate, not a judgement.
    thresholds: [.wallClock: .init(relative: [.p25: 30.0])])

  for file in ["int4.txt", "ternary.txt", "llama-2-7b.txt", "llama-3-8b.txt", "bitnet-2b.txt"] {
    guard let shapes = try? Shape.list(file) else { fatalError("Shapes/\(file) cannot be read") }
    for shape in shapes where Shape.formats.contains(shape.format) {
      Benchmark("\(file.dropLast(4)).\(shape.name)") { benchmark, product in
        for _ in benchmark.scaledIterations { blackHole(try product.run()) }
      } setup: {
        try shape.product()
      }
    }
  }

  for type in KeyValueType.allCases {
    for length in [1024, 16_384] {
      Benchmark("decode.\(type.rawValue).heads32x8.d128.s\(length)") { benchmark, step in
        for _ in benchmark.scaledIterations { try step.run() }
      } setup: {
        try DecodeStep(type: type, length: length)
      }
    }
  }
}
