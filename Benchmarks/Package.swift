// swift-tools-version: 6.2
import PackageDescription

// The kernels in the standard view of ordo-one/benchmark: percentiles, baselines, thresholds. A package of its own, so
// that nobody who depends on QuantKernels builds it. Speeds against peers and against the machine's limits, one
// interleaved run each, are what `quantkernels bench` and `make compare` are for.
let package = Package(
  name: "QuantKernelsBenchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "QuantKernels", path: "../"),
    // Without its traits it needs no library for counting allocations; `make benchmark` says what is lost.
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
  ],
  targets: [
    .executableTarget(
      name: "Kernels",
      dependencies: [
        .product(name: "QuantKernels", package: "QuantKernels"),
        .product(name: "Benchmark", package: "benchmark"),
      ],
      path: "Kernels",
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
  ]
)
