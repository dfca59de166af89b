import ArgumentParser

/// Device and extents of a simulated attention.
struct SimulatedShapeOptions: ParsableArguments {
  @Option(name: .long, help: "The device.")
  var device: String

  @Option(name: .long, help: "Key positions.")
  var kvLength: Int

  @Option(name: .long, help: "Query heads.")
  var heads: Int

  @Option(name: .long, help: "Heads of keys and values (default: the query heads).")
  var kvHeads: Int?

  @Option(name: .long, help: "Width of a head.")
  var headDim: Int
}
