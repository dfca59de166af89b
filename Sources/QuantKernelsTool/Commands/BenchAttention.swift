import ArgumentParser
import QuantKernels

/// `bench attention`: one layer's attention as a share of what the machine can do.
struct BenchAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention", abstract: "Speed of one layer's attention over a cache.",
    discussion: """
      The queries are the last of the cache's positions. With few queries the keys and values are \
      cold: the run rotates through copies that fill twice the last-level cache. The roofline is \
      the longer of the bytes of keys and values over the read bandwidth and of the operations \
      over the peak of their products, both sampled between the runs. --products bfloat16 rounds \
      queries, keys, probabilities and values, where the processor multiplies pairs of such \
      numbers. --unfused also times the way without tiles, on this package's float32 products: a \
      head's scores with all keys as a matrix, softmax by rows, product with all values.

      EXAMPLES
        quantkernels bench attention --query-length 2048 --kv-length 2048 --causal
        quantkernels bench attention --query-length 4096 --kv-length 4096 --causal --products bfloat16
        quantkernels bench attention --query-length 1 --kv-length 16384 --kv-heads 8 --kv-type q8_0
        quantkernels bench attention --query-length 1 --kv-length 4096 --page 16 --threads 1 --json
        quantkernels bench attention --query-length 4096 --kv-length 4096 --kv-type f32 --unfused
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions

  @Option(name: .long, help: "Queries.")
  var queryLength = 1

  @Option(name: .long, help: "Positions of keys and values.")
  var kvLength = 4096

  @Option(name: .long, help: "Query heads.")
  var heads = 32

  @Option(name: .long, help: "Heads of keys and values (default: as many as of queries).")
  var kvHeads: Int?

  @Option(name: .long, help: "Elements of a head.")
  var headDim = 128

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How keys and values are stored: "
        + KeyValueType.allCases.map(\.rawValue).joined(separator: ", ") + ".",
      valueName: "type"))
  var kvType = "f16"

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What keys and values of float types are multiplied in: "
        + AttentionOptions.Products.allCases.map(\.rawValue).joined(separator: ", ") + ".",
      valueName: "type"))
  var products = AttentionOptions.Products.float32.rawValue

  @Flag(name: .long, help: "A query sees no later key.")
  var causal = false

  @Option(name: .long, help: "A query sees so many positions up to its own.")
  var window: Int?

  @Option(name: .long, help: "Keep the cache in pages of so many positions.")
  var page: Int?

  @Flag(name: .long, help: "Time the unfused way between the runs.")
  var unfused = false

  func run() throws {
    guard let type = KeyValueType(rawValue: kvType) else {
      throw QuantError(
        .invalidArgument, "--kv-type \(kvType)", "no such type",
        remedy: "use one of " + KeyValueType.allCases.map(\.rawValue).joined(separator: ", "))
    }
    guard let products = AttentionOptions.Products(rawValue: products) else {
      throw QuantError(
        .invalidArgument, "--products \(products)", "no such products",
        remedy: "use one of "
          + AttentionOptions.Products.allCases.map(\.rawValue).joined(separator: ", "))
    }
    for (name, value) in [
      ("--query-length", queryLength), ("--kv-length", kvLength), ("--heads", heads),
      ("--head-dim", headDim), ("--kv-heads", kvHeads ?? heads), ("--page", page ?? 1),
    ] where !(1...1 << 24 ~= value) {
      throw QuantError(
        .invalidArgument, "\(name) \(value)", "no size", remedy: "use 1 to \(1 << 24)")
    }
    let attention = AttentionCase(
      queryLength: queryLength, keyValueLength: kvLength, heads: heads,
      keyValueHeads: kvHeads ?? heads, headDimension: headDim, type: type, products: products,
      isCausal: causal, window: window, pageSize: page, comparesUnfused: unfused)
    let pool = WorkerPool(threads: common.threadCount)
    let limits = try limitOptions.open(pool: pool)
    let report = AttentionReport(
      attention: attention,
      result: try attention.measure(
        options: limitOptions, limits: limits, pool: pool), limits: limits)
    common.finish(report.json, text: report.text)
  }
}
