import LanguageModel
import QuantKernels

/// Calibration statistics as a file, from which work that was killed goes on.
///
/// A safetensors file that appears whole or not at all: sums in float64 bit for bit, so that work that
/// goes on ends in the same bits as work that was never stopped.
struct CalibrationCheckpoint {
  private static let format = "quantkernels.kv-calibration"

  var statistics: CalibrationStatistics
  /// Batches that are in it.
  var batches: Int
  /// Says model, text and settings; statistics of others are of no use.
  let settings: String

  func write(to path: String) throws(QuantError) {
    var writer = SafetensorsWriter(metadata: [
      "format": Self.format, "settings": settings, "batches": "\(batches)",
      "samples": "\(statistics.samples)", "gradient_samples": "\(statistics.gradientSamples)",
      "loss_sum": "\(statistics.lossSum.bitPattern)",
      "rows": "\(statistics.layers.first?.inputs.count ?? 0)",
      "gradient_rows": "\(statistics.layers.first?.keys.gradients.first?.count ?? 0)",
    ])
    for (index, layer) in statistics.layers.enumerated() {
      try add(layer.inputs, "layers.\(index).inputs", to: &writer)
      for kind in LowRankFactors.Kind.allCases {
        let projection = layer[kind]
        for (block, gram) in projection.gradients.enumerated() {
          try add(gram, "layers.\(index).\(kind.rawValue).gradients.\(block)", to: &writer)
        }
        if !projection.squares.isEmpty {
          let squares = projection.squares
          try writer.addTensor(
            "layers.\(index).\(kind.rawValue).squares", type: .f32, shape: [squares.count]
          ) { sink throws(QuantError) in
            try squares.withUnsafeBufferPointer { values throws(QuantError) in
              try sink.write(UnsafeRawBufferPointer(values))
            }
          }
        }
      }
    }
    try writer.write(to: path)
  }

  private func add(
    _ gram: Gram, _ name: String, to writer: inout SafetensorsWriter
  ) throws(QuantError) {
    let values = gram.stored
    try writer.addTensor(name, type: .f64, shape: [gram.width, gram.width]) {
      sink throws(QuantError) in
      try values.withUnsafeBufferPointer { values throws(QuantError) in
        try sink.write(UnsafeRawBufferPointer(values))
      }
    }
  }

  /// Reads a checkpoint; nil when there is none, or it is of other settings.
  ///
  /// - Parameter empty: statistics of the shape that is wanted.
  /// - Throws: `QuantError` `.invalidData` for a damaged file.
  static func load(
    _ path: String, settings: String, empty: CalibrationStatistics
  ) throws(QuantError) -> CalibrationCheckpoint? {
    let file: SafetensorsFile
    do throws(QuantError) {
      file = try SafetensorsFile(path: path)
    } catch {
      if error.code == .missingFile { return nil }
      throw QuantError(
        error.code, path, error.problem, remedy: "remove this checkpoint and calibrate again")
    }
    func damaged(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, path, problem, remedy: "remove this checkpoint and calibrate again")
    }
    guard file.metadata["format"] == format else {
      throw damaged("is no calibration checkpoint")
    }
    guard file.metadata["settings"] == settings else { return nil }
    func integer(_ key: String) throws(QuantError) -> Int {
      guard let value = file.metadata[key].flatMap({ Int($0) }), (0...(1 << 40)).contains(value)
      else { throw damaged("states no '\(key)'") }
      return value
    }
    /// A tensor's elements, all of which must be finite.
    func elements<Element: BinaryFloatingPoint>(
      _ name: String, _ type: SafetensorsType, count: Int
    ) throws(QuantError) -> [Element] {
      guard let tensor = file.tensor(named: name), tensor.type == type,
        tensor.byteCount == count * MemoryLayout<Element>.stride
      else { throw damaged("lacks '\(name)' of \(count) elements") }
      let values = file.withBytes(of: tensor) { bytes in
        (0..<count).map {
          bytes.loadUnaligned(
            fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self)
        }
      }
      guard values.allSatisfy(\.isFinite) else { throw damaged("'\(name)' is not finite") }
      return values
    }
    var statistics = empty
    statistics.samples = try integer("samples")
    statistics.gradientSamples = try integer("gradient_samples")
    guard let bits = file.metadata["loss_sum"].flatMap({ UInt64($0) }),
      Double(bitPattern: bits).isFinite
    else { throw damaged("states no 'loss_sum'") }
    statistics.lossSum = Double(bitPattern: bits)
    let rows = try integer("rows")
    let gradientRows = try integer("gradient_rows")
    for index in statistics.layers.indices {
      let width = empty.shape.modelWidth
      statistics.layers[index].inputs = Gram(
        restoring: try elements("layers.\(index).inputs", .f64, count: width * width),
        width: width, count: rows)
      for kind in LowRankFactors.Kind.allCases {
        let wanted = empty.layers[index][kind]
        for block in wanted.gradients.indices {
          let width = wanted.gradients[block].width
          statistics.layers[index][kind].gradients[block] = Gram(
            restoring: try elements(
              "layers.\(index).\(kind.rawValue).gradients.\(block)", .f64, count: width * width),
            width: width, count: gradientRows)
        }
        if !wanted.squares.isEmpty {
          statistics.layers[index][kind].squares = try elements(
            "layers.\(index).\(kind.rawValue).squares", .f32, count: wanted.squares.count)
        }
      }
    }
    return CalibrationCheckpoint(
      statistics: statistics, batches: try integer("batches"), settings: settings)
  }
}
