import ArgumentParser
import LanguageModel
import QuantKernels

/// `inspect`: what a model file holds.
struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Architecture, tensors, types and sizes of a model.",
    discussion: """
      The model is a GGUF file, a Hugging Face directory (shown with GGUF's names and keys), or \
      safetensors: one file, its index, or the folder that holds it.

      EXAMPLES
        quantkernels inspect model.gguf
        quantkernels inspect model.safetensors --json
      """)

  @OptionGroup var common: CommonOptions

  @Argument(help: "The file.")
  var file: String

  func run() throws {
    let summary =
      try ModelFileKind(path: file) != .safetensors
      ? FileSummary(gguf: try GGUFFile(path: file), path: file)
      : FileSummary(safetensors: try SafetensorsModel(path: file), path: file)
    common.finish(summary.json, text: summary.text)
  }
}

/// What `inspect` prints.
private struct FileSummary {
  struct Tensor {
    let name: String
    let type: String
    /// Rows first, as the layer is written: outFeatures × inFeatures.
    let shape: [Int]
    let bytes: Int
  }

  let path: String
  let format: String
  let architecture: String
  let metadata: [(key: String, value: JSON)]
  let tensors: [Tensor]

  init(gguf file: GGUFFile, path: String) {
    self.path = path
    format = file.isDirectory ? "Hugging Face directory" : "GGUF v\(file.version)"
    architecture = file.metadata.string("general.architecture") ?? "unknown"
    metadata = file.metadata.keys.map { ($0, FileSummary.json(file.metadata, $0)) }
    tensors = file.tensors.map {
      Tensor(
        name: $0.name, type: $0.typeName, shape: $0.dimensions.reversed(), bytes: $0.byteCount)
    }
  }

  init(safetensors model: SafetensorsModel, path: String) {
    self.path = path
    format = "safetensors"
    let names = model.tensors.map(\.name)
    architecture =
      names.contains { $0.hasSuffix(".qweight") } ? "quantized checkpoint" : "checkpoint"
    metadata = model.files.flatMap { file in
      file.metadata.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) }
    }
    tensors = model.tensors.map {
      Tensor(name: $0.name, type: $0.type.rawValue, shape: $0.shape, bytes: $0.byteCount)
    }
  }

  private static func json(_ metadata: GGUFMetadata, _ key: String) -> JSON {
    if let count = metadata.count(of: key) { return ["elements": JSON(count)] }
    if let text = metadata.string(key) { return JSON(text) }
    if let flag = metadata.bool(key) { return .bool(flag) }
    if let number = metadata.integer(key) { return JSON(number) }
    return metadata.float(key).map { JSON($0) } ?? .null
  }

  private var totals: [(type: String, count: Int, bytes: Int)] {
    var totals: [String: (count: Int, bytes: Int)] = [:]
    for tensor in tensors {
      let old = totals[tensor.type] ?? (0, 0)
      totals[tensor.type] = (old.count + 1, old.bytes &+ tensor.bytes)
    }
    return totals.map { ($0.key, $0.value.count, $0.value.bytes) }.sorted { $0.type < $1.type }
  }

  private func elements(_ tensor: Tensor) -> Int { tensor.shape.reduce(1, &*) }

  var json: JSON {
    [
      "file": JSON(path), "format": JSON(format), "architecture": JSON(architecture),
      "parameters": JSON(tensors.reduce(0) { $0 &+ elements($1) }),
      "bytes": JSON(tensors.reduce(0) { $0 &+ $1.bytes }),
      "types": .array(
        totals.map {
          ["type": JSON($0.type), "tensors": JSON($0.count), "bytes": JSON($0.bytes)]
        }),
      "metadata": .object(metadata),
      "tensors": .array(
        tensors.map {
          [
            "name": JSON($0.name), "type": JSON($0.type),
            "shape": .array($0.shape.map { JSON($0) }), "bytes": JSON($0.bytes),
          ]
        }),
    ]
  }

  var text: String {
    var lines = [printable("\(path): \(format), \(architecture)")]
    let parameters = tensors.reduce(0) { $0 &+ elements($1) }
    lines.append("\(tensors.count) tensors, \(parameters) elements")
    for total in totals {
      lines.append(
        "  \(padded(total.type, 8, left: true)) \(padded(String(total.count), 5)) tensors "
          + "\(padded(fixed(Double(total.bytes) * 1e-6, 1), 10)) MB")
    }
    lines.append("metadata")
    for (key, value) in metadata {
      let shown = value.text
      lines.append(
        "  \(printable(key)) = \(shown.count > 80 ? shown.prefix(77) + "..." : shown[...])")
    }
    lines.append("tensors")
    let width = min(tensors.map(\.name.count).max() ?? 0, 48)
    for tensor in tensors {
      let name = printable(tensor.name)
      let shape = tensor.shape.map(String.init).joined(separator: "×")
      lines.append(
        "  \(padded(name, width, left: true))  \(padded(tensor.type, 7, left: true)) \(shape)"
      )
    }
    return lines.joined(separator: "\n")
  }
}
