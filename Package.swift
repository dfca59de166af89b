// swift-tools-version: 6.2
import PackageDescription

// Intrinsics at -O0 run 10-60 times slower than at -O2, which would make a debug test run useless.
// A tools version of 6.2 or later lets a versioned dependency carry this flag.
let kernelSettings: [CSetting] = [
  .unsafeFlags(["-O2"], .when(configuration: .debug)),
  .define("NDEBUG", .when(configuration: .release)),
  .headerSearchPath("."),
]

let swiftSettings: [SwiftSetting] = [
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
]

let toolDependencies: [Target.Dependency] = [
  "Calibration", "LanguageModel", "QuantKernels", "DeviceModel",
  .target(name: "MPICommunicator", condition: .when(traits: ["MPI"])),
  .product(name: "ArgumentParser", package: "swift-argument-parser"),
]

// Set, the manifest is that of Tests/Fuzz: the command line is a library that a fuzzer calls.
let isFuzzing = Context.environment["QUANTKERNELS_FUZZ"] != nil

let package = Package(
  name: "QuantKernels",
  platforms: [.macOS(.v15)],
  products: [
    // MARK: Public
    .library(name: "QuantKernels", targets: ["QuantKernels"]),
    .library(name: "DeviceModel", targets: ["DeviceModel"]),
    .library(name: "LanguageModel", targets: ["LanguageModel"]),
    .library(name: "Calibration", targets: ["Calibration"]),
    .library(name: "MPICommunicator", targets: ["MPICommunicator"]),
    .executable(name: "quantkernels", targets: ["QuantKernelsTool"]),
  ],
  traits: [
    .trait(name: "MPI", description: "Ranks that are processes, by Open MPI (libopenmpi-dev)."),
    .default(enabledTraits: []),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // For `make docs`. No target uses it, so a package that depends on this one never checks it out.
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
  ],
  targets: [
    // MARK: Public
    .target(
      name: "DeviceModel", dependencies: ["CDeviceModel"],
      swiftSettings: swiftSettings + [.strictMemorySafety()]),
    .target(
      name: "QuantKernels", dependencies: ["DeviceModel", "CQuantKernels"],
      swiftSettings: swiftSettings),
    .target(name: "LanguageModel", dependencies: ["QuantKernels"], swiftSettings: swiftSettings),
    // The one library that needs a system library: BLAS and LAPACK.
    .target(
      name: "Calibration", dependencies: ["LanguageModel", "QuantKernels", "COpenBLAS"],
      swiftSettings: swiftSettings,
      linkerSettings: [
        .linkedLibrary("openblas", .when(platforms: [.linux])),
        .linkedFramework("Accelerate", .when(platforms: [.macOS])),
      ]),
    // Empty without the trait, which then needs no MPI.
    .target(
      name: "MPICommunicator",
      dependencies: [
        "QuantKernels", .target(name: "CMPI", condition: .when(traits: ["MPI"])),
      ],
      swiftSettings: swiftSettings),

    // MARK: Implementation
    .target(name: "CQuantKernels", cSettings: kernelSettings),
    .target(name: "CDeviceModel", cSettings: kernelSettings),
    // Declarations only; which library has them, Calibration says. Accelerate comes with macOS.
    .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
    isFuzzing
      ? .target(
        name: "QuantKernelsTool", dependencies: toolDependencies,
        swiftSettings: swiftSettings + [.define("FUZZING")])
      : .executableTarget(
        name: "QuantKernelsTool", dependencies: toolDependencies, swiftSettings: swiftSettings),

    // MARK: Test support
    .target(
      name: "TestSupport", dependencies: ["QuantKernels"], path: "Tests/TestSupport",
      swiftSettings: swiftSettings),

    .target(name: "CTestSupport", path: "Tests/CTestSupport"),

    // What Tests/soak.sh runs for an hour.
    .executableTarget(
      name: "Soak", dependencies: ["LanguageModel", "QuantKernels"], path: "Tests/Soak",
      swiftSettings: swiftSettings),

    // What Tests/MPI/run.sh starts by mpirun.
    .executableTarget(
      name: "MPIRanks",
      dependencies: [
        "LanguageModel", "QuantKernels", "TestSupport",
        .target(name: "MPICommunicator", condition: .when(traits: ["MPI"])),
      ],
      path: "Tests/MPI/Ranks", swiftSettings: swiftSettings),

    // MARK: Tests
    .testTarget(
      name: "DeviceModelTests", dependencies: ["DeviceModel", "TestSupport"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "QuantKernelsTests", dependencies: ["QuantKernels", "CQuantKernels", "TestSupport"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "LanguageModelTests", dependencies: ["LanguageModel", "TestSupport", "CTestSupport"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "CalibrationTests", dependencies: ["Calibration", "TestSupport"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "QuantKernelsToolTests",
      dependencies: ["QuantKernelsTool", "LanguageModel", "TestSupport"],
      swiftSettings: swiftSettings),
  ]
)

if isFuzzing {
  package.products.removeAll { $0.name == "quantkernels" }
  package.targets.removeAll { $0.type == .test }
  let fuzzers: [String: Target.Dependency] = [
    "FuzzGGUF": "LanguageModel", "FuzzSafetensors": "LanguageModel",
    "FuzzTokenizer": "LanguageModel", "FuzzCases": "QuantKernelsTool",
    "FuzzArguments": "QuantKernelsTool",
  ]
  for (name, dependency) in fuzzers {
    package.targets.append(
      .executableTarget(
        name: name,
        dependencies: [
          dependency, "QuantKernels", "CLibFuzzer",
          .product(name: "ArgumentParser", package: "swift-argument-parser"),
        ],
        path: "Tests/Fuzz/\(name)", swiftSettings: swiftSettings))
  }
  package.targets.append(.systemLibrary(name: "CLibFuzzer", path: "Tests/Fuzz/CLibFuzzer"))
}

// Set, the manifest is that of Tests/Sanitizers, which compiles everything anew: only what it runs, by
// `threads` the suites of threads without models, by `files` those of models.
if let part = Context.environment["QUANTKERNELS_SANITIZERS"] {
  var wanted: Set = ["DeviceModel", "QuantKernels", "CQuantKernels", "CDeviceModel", "TestSupport"]
  wanted.formUnion(
    part == "threads"
      ? ["QuantKernelsTests"] : ["LanguageModel", "CTestSupport", "LanguageModelTests"])
  package.targets.removeAll { !wanted.contains($0.name) }
  package.products.removeAll { !wanted.contains($0.name) }
  package.dependencies = []
  package.traits = []
  if let tests = package.targets.first(where: { $0.name == "QuantKernelsTests" }) {
    tests.exclude = ["Cooperation", "GPU", "Int4", "KQuant", "Layout", "LowRankCache", "NPU"]
    tests.exclude += [
      "Ternary", "TensorParallel/ActOrder", "TensorParallel/TiledAllReduceTests.swift",
    ]
  }
}
