import QuantKernels

/// Low-rank factors of a model's keys and values, as a file.
///
/// A safetensors file that any reader of that format can list. Its text metadata hold the shape, the
/// mode and what the factors were made from; tensors are named `layers.L.key.G.down` (F32,
/// `[rank, width]`), `….up` (F32, `[s·d_h, rank]`), and where there are such `….bias`,
/// `….latent_bias` (F32) and `….frequencies` (I32). Two checksums (XXH64, hexadecimal) are among the
/// metadata: `checksum` of all tensors' bytes, and `model` of the projections that the factors stand
/// for, so that factors of another model are refused instead of giving nonsense.
public struct LowRankFactorsFile: Sendable, Equatable {
  /// The factors.
  public let factors: LowRankFactors
  /// ``GGUFFile/keyValueChecksum()`` of the model that they were made for.
  public let modelChecksum: UInt64
  /// What else the maker noted: method, ratio, calibration text; free text by key.
  public let notes: [String: String]

  static let format = "quantkernels.low-rank-kv"
  static let version = "1"
  private static let notePrefix = "note."

  /// The contents of a file; nothing is written before ``write(to:isCancelled:)``.
  public init(factors: LowRankFactors, modelChecksum: UInt64, notes: [String: String] = [:]) {
    self.factors = factors
    self.modelChecksum = modelChecksum
    self.notes = notes
  }

  /// Refuses factors of another model.
  ///
  /// - Throws: `QuantError` `.invalidData`, naming what differs.
  public func check(against model: LanguageModel, name: String) throws(QuantError) {
    let shape = LowRankFactors.Shape(model.configuration)
    guard shape == factors.shape else {
      throw QuantError(
        .invalidData, name,
        "is for \(factors.shape.layers) layers of \(factors.shape.keyValueHeads) × "
          + "\(factors.shape.headDimension), width \(factors.shape.modelWidth); the model has "
          + "\(shape.layers) of \(shape.keyValueHeads) × \(shape.headDimension), width "
          + "\(shape.modelWidth)", remedy: "calibrate this model")
    }
    guard model.file.keyValueChecksum() == modelChecksum else {
      throw QuantError(
        .invalidData, name, "was made for other key and value weights than the model's",
        remedy: "calibrate this model")
    }
  }

  // MARK: Writing

  /// Makes or replaces the file at `path`; it appears whole or not at all.
  ///
  /// - Throws: as ``SafetensorsWriter/write(to:isCancelled:progress:)``.
  public func write(
    to path: String, isCancelled: @escaping () -> Bool = { false }
  ) throws(QuantError) {
    try writer().write(to: path, isCancelled: isCancelled)
  }

  /// The file's bytes, in memory.
  ///
  /// - Throws: `QuantError` as the writer of safetensors.
  public func serialized() throws(QuantError) -> [UInt8] { try writer().serialized() }

  private func writer() throws(QuantError) -> SafetensorsWriter {
    let shape = factors.shape
    var metadata = [
      "format": Self.format, "version": Self.version, "layers": "\(shape.layers)",
      "query_heads": "\(shape.queryHeads)", "key_value_heads": "\(shape.keyValueHeads)",
      "head_dimension": "\(shape.headDimension)", "model_width": "\(shape.modelWidth)",
      "rotary_dimension": "\(shape.rotaryDimension)",
      "rotary_style": shape.rotaryStyle == .halves ? "halves" : "interleaved",
      "heads_per_group": "\(factors.headsPerGroup)", "key_mode": factors.keyMode.rawValue,
      "bits": "\(factors.bits)", "rotated": "\(factors.isRotated)",
      "model": hexadecimal(modelChecksum),
    ]
    for (key, value) in notes { metadata[Self.notePrefix + key] = value }
    var hash = XXH64()
    var tensors: [(name: String, type: SafetensorsType, shape: [Int], bytes: [UInt8])] = []
    for (index, layer) in factors.layers.enumerated() {
      for kind in LowRankFactors.Kind.allCases {
        for (number, group) in layer[kind].enumerated() {
          for part in Part.allCases {
            guard let values = part.values(of: group, factors) else { continue }
            values.bytes.withUnsafeBytes { hash.update($0) }
            tensors.append(
              (
                part.name(layer: index, kind, group: number), part.type, values.shape, values.bytes
              ))
          }
        }
      }
    }
    metadata["checksum"] = hexadecimal(hash.finish())
    var writer = SafetensorsWriter(metadata: metadata)
    for tensor in tensors {
      try writer.addTensor(
        tensor.name, type: tensor.type, shape: tensor.shape, bytes: tensor.bytes)
    }
    return writer
  }

  // MARK: Reading

  /// Opens and checks a file.
  ///
  /// - Throws: `QuantError` `.missingFile`; `.unsupported` for another version; `.invalidData` for
  ///   everything else that is wrong with the file.
  public init(path: String) throws(QuantError) {
    try self.init(file: SafetensorsFile(path: path))
  }

  /// Checks a file that is open.
  ///
  /// - Throws: as ``init(path:)``.
  public init(file: SafetensorsFile) throws(QuantError) {
    let reader = Reader(file: file)
    guard file.metadata["format"] == Self.format else {
      throw reader.damaged("holds no low-rank factors")
    }
    guard file.metadata["version"] == Self.version else {
      throw QuantError(
        .unsupported, file.path,
        "low-rank factors of version \((file.metadata["version"] ?? "none").prefix(16)), this "
          + "build reads \(Self.version)",
        remedy: "calibrate again, or use a newer version of the package")
    }
    let shape = LowRankFactors.Shape(
      layers: try reader.integer("layers"), queryHeads: try reader.integer("query_heads"),
      keyValueHeads: try reader.integer("key_value_heads"),
      headDimension: try reader.integer("head_dimension"),
      modelWidth: try reader.integer("model_width"),
      rotaryDimension: try reader.integer("rotary_dimension"),
      rotaryStyle: try reader.choice("rotary_style", ["halves", "interleaved"]) == 0
        ? .halves : .interleaved)
    let modes = LowRankFactors.KeyMode.allCases
    let keyMode = modes[try reader.choice("key_mode", modes.map(\.rawValue))]
    let headsPerGroup = try reader.integer("heads_per_group")
    let bits = try reader.integer("bits")
    let rotated = try reader.choice("rotated", ["true", "false"]) == 0
    let modelChecksum = try reader.checksum("model")
    let checksum = try reader.checksum("checksum")
    // Before the loops below: they run over these numbers.
    do throws(QuantError) {
      try LowRankFactors.check(shape, headsPerGroup: headsPerGroup, keyMode: keyMode, bits: bits)
    } catch {
      throw reader.damaged("\(error.subject): \(error.problem)")
    }
    var layers: [LowRankFactors.Layer] = []
    var hash = XXH64()
    var tensorCount = 0
    for index in 0..<shape.layers {
      var layer = LowRankFactors.Layer(keys: [], values: [])
      for kind in LowRankFactors.Kind.allCases where kind == .value || keyMode != .rotated {
        for number in 0..<shape.keyValueHeads / headsPerGroup {
          let group = try reader.group(
            layer: index, kind, number, &hash, &tensorCount)
          switch kind {
          case .key: layer.keys.append(group)
          case .value: layer.values.append(group)
          }
        }
      }
      layers.append(layer)
    }
    guard tensorCount == file.tensors.count else {
      throw reader.damaged("\(file.tensors.count) tensors where \(tensorCount) belong")
    }
    do throws(QuantError) {
      factors = try LowRankFactors(
        shape: shape, headsPerGroup: headsPerGroup, keyMode: keyMode, bits: bits,
        isRotated: rotated, layers: layers)
    } catch {
      throw reader.damaged("\(error.subject): \(error.problem)")
    }
    guard hash.finish() == checksum else {
      throw reader.damaged("its checksum is not that of its values")
    }
    self.modelChecksum = modelChecksum
    var notes: [String: String] = [:]
    for (key, value) in file.metadata where key.hasPrefix(Self.notePrefix) {
      notes[String(key.dropFirst(Self.notePrefix.count))] = value
    }
    self.notes = notes
  }

  /// The tensors of a group, in the order of the checksum.
  private enum Part: String, CaseIterable {
    case down
    case up
    case bias
    case latentBias = "latent_bias"
    case frequencies

    func name(layer: Int, _ kind: LowRankFactors.Kind, group: Int) -> String {
      "layers.\(layer).\(kind.rawValue).\(group).\(rawValue)"
    }

    var type: SafetensorsType { self == .frequencies ? .i32 : .f32 }

    func values(
      of group: LowRankFactors.Group, _ factors: LowRankFactors
    ) -> (shape: [Int], bytes: [UInt8])? {
      switch self {
      case .down:
        ([group.rank, factors.shape.modelWidth], littleEndian(group.down.map(\.bitPattern)))
      case .up: ([factors.groupWidth, group.rank], littleEndian(group.up.map(\.bitPattern)))
      case .bias: group.bias.map { ([$0.count], littleEndian($0.map(\.bitPattern))) }
      case .latentBias: group.latentBias.map { ([$0.count], littleEndian($0.map(\.bitPattern))) }
      case .frequencies:
        group.frequencies.isEmpty
          ? nil
          : (
            [group.frequencies.count],
            littleEndian(group.frequencies.map { UInt32(truncatingIfNeeded: $0) })
          )
      }
    }

    private func littleEndian(_ words: [UInt32]) -> [UInt8] {
      var bytes: [UInt8] = []
      bytes.reserveCapacity(4 * words.count)
      for word in words { bytes.append(littleEndian: word) }
      return bytes
    }
  }

  private struct Reader {
    let file: SafetensorsFile

    func damaged(_ problem: String) -> QuantError {
      QuantError(.invalidData, file.path, problem, remedy: "calibrate again")
    }

    private func text(_ key: String) throws(QuantError) -> String {
      guard let text = file.metadata[key] else { throw damaged("states no '\(key)'") }
      return text
    }

    func integer(_ key: String) throws(QuantError) -> Int {
      let text = try text(key)
      guard let value = Int(text), value >= 0, value <= 1 << 30 else {
        throw damaged("'\(key)' is \(quoted(text)), no size")
      }
      return value
    }

    func choice(_ key: String, _ choices: [String]) throws(QuantError) -> Int {
      let text = try text(key)
      guard let index = choices.firstIndex(of: text) else {
        throw damaged(
          "'\(key)' is \(quoted(text)), none of \(choices.joined(separator: ", "))")
      }
      return index
    }

    func checksum(_ key: String) throws(QuantError) -> UInt64 {
      let text = try text(key)
      guard text.utf8.count == 16, let value = UInt64(text, radix: 16) else {
        throw damaged("'\(key)' is \(quoted(text)), no checksum")
      }
      return value
    }

    func group(
      layer: Int, _ kind: LowRankFactors.Kind, _ number: Int, _ hash: inout XXH64,
      _ tensorCount: inout Int
    ) throws(QuantError) -> LowRankFactors.Group {
      var words: [Part: [UInt32]] = [:]
      var rank = 0
      for part in Part.allCases {
        let name = part.name(layer: layer, kind, group: number)
        guard let tensor = file.tensor(named: name) else {
          guard part != .down, part != .up else { throw damaged("lacks tensor \(quoted(name))") }
          continue
        }
        guard tensor.type == part.type, tensor.shape.count == (part == .down || part == .up ? 2 : 1)
        else {
          throw damaged("tensor \(quoted(name)) is \(tensor.type.rawValue) \(tensor.shape)")
        }
        if part == .down { rank = tensor.shape[0] }
        if part == .up, tensor.shape[1] != rank {
          throw damaged("tensor \(quoted(name)) has rank \(tensor.shape[1]), down has \(rank)")
        }
        tensorCount += 1
        words[part] = file.withBytes(of: tensor) { bytes in
          hash.update(bytes)
          return (0..<bytes.count / 4).map {
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
          }
        }
      }
      func floats(_ part: Part) -> [Float]? { words[part]?.map { Float(bitPattern: $0) } }
      return LowRankFactors.Group(
        rank: rank, down: floats(.down) ?? [], up: floats(.up) ?? [], bias: floats(.bias),
        latentBias: floats(.latentBias),
        frequencies: words[.frequencies]?.map { Int(Int32(bitPattern: $0)) } ?? [])
    }
  }
}

/// Sixteen hexadecimal digits.
private func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}

extension LowRankFactors.Shape {
  /// The attention of a model.
  public init(_ configuration: ModelConfiguration) {
    self.init(
      layers: configuration.layerCount, queryHeads: configuration.headCount,
      keyValueHeads: configuration.keyValueHeadCount, headDimension: configuration.headDimension,
      modelWidth: configuration.embeddingLength,
      rotaryDimension: configuration.rotary.dimension, rotaryStyle: configuration.rotaryStyle)
  }
}

extension GGUFFile {
  /// A checksum (XXH64) of what keys and values are computed by: names, types, shapes and bytes of
  /// the `attn_k`, `attn_v` and `attn_norm` tensors.
  ///
  /// - Complexity: O(their bytes).
  public func keyValueChecksum() -> UInt64 {
    var hash = XXH64()
    for tensor in tensors.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
      let parts = tensor.name.split(separator: ".")
      guard parts.count >= 3, parts[0] == "blk",
        ["attn_k", "attn_v", "attn_norm"].contains(parts[2])
      else { continue }
      let label = "\(tensor.name) \(tensor.typeNumber) \(tensor.dimensions);"
      Array(label.utf8).withUnsafeBytes { hash.update($0) }
      withBytes(of: tensor) { hash.update($0) }
    }
    return hash.finish()
  }
}
