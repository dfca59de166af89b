import QuantKernels

/// The marker of the TP-aware pass in safetensors metadata, and the pass over a file's layers.
///
/// `tp_aware.model.layers.0.mlp` holds the checksum of the order that was moved from the inputs of
/// `…mlp.down_proj` into the outputs of `…mlp.gate_proj` and `…mlp.up_proj`, 16 hexadecimal digits;
/// `tp_aware.model.layers.0.self_attn` that of `…self_attn.o_proj`, which went to `…self_attn.v_proj`.
struct MovedOrders {
  /// What the file's metadata says, and what was moved since.
  private(set) var metadata: [String: String] = [:]
  /// Orders of biases beside moved layers, by tensor.
  private(set) var biasOrders: [String: [Int32]] = [:]

  private static let prefix = "tp_aware."
  private static let down = ".down_proj"
  private static let output = ".o_proj"

  /// Nothing was moved.
  init() {}

  init(of model: SafetensorsModel) {
    for file in model.files {
      for (key, value) in file.metadata where key.hasPrefix(Self.prefix) { metadata[key] = value }
    }
  }

  /// The checksum of a block whose order was moved, by its down projection or its attention's output
  /// projection; one that cannot be read is no order's.
  func order(ofInputsOf layer: String) -> UInt64? {
    guard let suffix = [Self.down, Self.output].first(where: { layer.hasSuffix($0) }) else {
      return nil
    }
    return metadata[Self.prefix + layer.dropLast(suffix.count)].map { UInt64($0, radix: 16) ?? 0 }
  }

  /// Whether the order of any attention's output projection was moved: values are in its order.
  var hasMovedValues: Bool { metadata.keys.contains { $0.hasSuffix(".self_attn") } }

  private mutating func mark(_ block: String, _ order: Permutation) {
    let digits = String(order.checksum, radix: 16)
    metadata[Self.prefix + block] = String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// Moves the order of every block of the layers.
  ///
  /// - Returns: how many blocks had one.
  /// - Throws: `QuantError` `.invalidArgument` when a block's order was moved already;
  ///   `.unsupported` for a down projection without gate and up of its own.
  mutating func move(
    _ layers: inout [(layer: String, matrix: Int4Matrix)], path: String
  ) throws(QuantError) -> Int {
    var places: [String: Int] = [:]
    for (index, entry) in layers.enumerated() { places[entry.layer] = index }
    var count = 0
    for index in layers.indices where layers[index].layer.hasSuffix(Self.down) {
      let block = String(layers[index].layer.dropLast(Self.down.count))
      guard let gate = places[block + ".gate_proj"], let up = places[block + ".up_proj"] else {
        throw QuantError(
          .unsupported, "\(path): \(layers[index].layer)", "has no gate_proj and up_proj beside it",
          remedy: "give a model of gated feed-forward blocks")
      }
      do throws(QuantError) {
        let found = try ActOrderMLP(
          gate: layers[gate].matrix, up: layers[up].matrix, down: layers[index].matrix,
          activation: .identity, movedOrder: order(ofInputsOf: layers[index].layer))
        let order = found.hiddenOrder
        let moved = try found.movingInputOrder()
        if let matrix = moved.gate { layers[gate].matrix = matrix }
        layers[up].matrix = moved.up
        layers[index].matrix = moved.down
        if !order.isIdentity {
          count += 1
          for name in ["gate_proj", "up_proj"] {
            biasOrders["\(block).\(name).bias"] = order.order
          }
        }
        mark(block, order)
      } catch {
        throw QuantError(
          error.code, "\(path): \(block), \(error.subject)", error.problem, remedy: error.remedy)
      }
    }
    return count
  }

  /// Moves the order of every attention's output projection, which stays inside heads, into its value
  /// projection.
  ///
  /// - Returns: how many had one.
  /// - Throws: ``QuantError`` as ``HeadOrder``; `.unsupported` for an output projection without a
  ///   value projection of its own.
  mutating func moveHeads(
    _ layers: inout [(layer: String, matrix: Int4Matrix)], configuration: ModelConfiguration,
    path: String
  ) throws(QuantError) -> Int {
    var places: [String: Int] = [:]
    for (index, entry) in layers.enumerated() { places[entry.layer] = index }
    var count = 0
    for index in layers.indices where layers[index].layer.hasSuffix(Self.output) {
      let block = String(layers[index].layer.dropLast(Self.output.count))
      guard let value = places[block + ".v_proj"] else {
        throw QuantError(
          .unsupported, "\(path): \(layers[index].layer)", "has no v_proj beside it",
          remedy: "leave --tp-aware out")
      }
      do throws(QuantError) {
        let heads = (
          configuration.headCount, configuration.keyValueHeadCount, configuration.headDimension
        )
        let columns = layers[index].matrix.columns
        let order =
          try layers[index].matrix.inputPermutation.map { order throws(QuantError) in
            try Permutation(order)
          } ?? Permutation.identity(columns)
        let values = try HeadOrder(
          order, heads: heads.0, keyValueHeads: heads.1, headDimension: heads.2
        ).values
        (layers[value].matrix, layers[index].matrix) = try HeadOrder.moving(
          value: layers[value].matrix, output: layers[index].matrix, heads: heads.0,
          keyValueHeads: heads.1, headDimension: heads.2)
        if !order.isIdentity {
          count += 1
          biasOrders["\(block).v_proj.bias"] = values.order
        }
        mark(block, order)
      } catch {
        throw QuantError(
          error.code, "\(path): \(block), \(error.subject)", error.problem, remedy: error.remedy)
      }
    }
    return count
  }

  /// A matrix's rows in another order: row i is row `order[i]` of `values`.
  static func gather<Element>(_ values: [Element], _ order: [Int32]) -> [Element] {
    let width = order.isEmpty ? 0 : values.count / order.count
    var ordered: [Element] = []
    ordered.reserveCapacity(values.count)
    for row in order { ordered += values[Int(row) * width..<(Int(row) + 1) * width] }
    return ordered
  }

  /// A vector's elements in another order.
  ///
  /// - Throws: `QuantError` `.invalidData` for a vector of another length.
  static func gather<Bytes: RandomAccessCollection>(
    _ bytes: Bytes, _ order: [Int32], _ name: String
  ) throws(QuantError) -> [UInt8] where Bytes.Element == UInt8, Bytes.Index == Int {
    let width = order.isEmpty ? 0 : bytes.count / order.count
    guard width > 0, width * order.count == bytes.count else {
      throw QuantError(
        .invalidData, "tensor \(name)", "\(bytes.count) bytes for \(order.count) channels",
        remedy: "fetch the checkpoint again")
    }
    return order.flatMap { bytes[Int($0) * width..<(Int($0) + 1) * width] }
  }
}
