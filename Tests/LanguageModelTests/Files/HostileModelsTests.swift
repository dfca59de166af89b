import LanguageModel
import QuantKernels
import TestSupport
import Testing

/// Files that are well-formed GGUF and state nonsense: whatever runs or converts a model reads or
/// refuses them. Nothing but a `QuantError` may come out; a trap ends the test run.
@Suite struct HostileModelsTests {
  private static let numbers: [GGUFValue] = [
    .uint32(0), .uint32(1), .uint32(3), .uint32(1 << 31), .uint64(1 << 40), .uint64(1 << 62),
    .uint64(UInt64(Int64.max)), .uint64(.max), .int64(-1), .int64(.min), .float32(.nan),
    .float32(.infinity), .float64(1e300), .bool(true), .text(""), .text("many"),
    .array(.uint32, []), .array(.int64, [.int64(.max), .int64(.min)]),
    .array(.string, [.text("a"), .text("a")]),
  ]

  @Test(arguments: ModelCase.architectures)
  func everyKeyMayStateAnything(_ model: ModelCase) throws {
    let source = try model.file()
    for key in source.metadata.keys {
      for value in HostileModelsTests.numbers {
        var writer = GGUFWriter()
        writer.copyMetadata(from: source.metadata)
        // The alignment is the writer's own to choose.
        guard key != "general.alignment" else { continue }
        try writer.set(key, value)
        for tensor in source.tensors { try writer.addTensor(copying: tensor, from: source) }
        use(try writer.serialized(), converts: key.hasPrefix("\(model.model.architecture)."))
      }
    }
  }

  @Test(arguments: 0..<4)
  func headersMayHoldAnyBytes(_ part: Int) throws {
    let source = try ModelCase.architectures[part].file()
    var writer = GGUFWriter()
    writer.copyMetadata(from: source.metadata)
    for tensor in source.tensors { try writer.addTensor(copying: tensor, from: source) }
    let bytes = try writer.serialized()
    var random = RepeatableRandom(seed: UInt64(part))
    for index in 0..<500 {
      var mutant = bytes
      for _ in 0...Int.random(in: 0..<3, using: &random) {
        let place = Int.random(in: 24..<source.dataOffset, using: &random)
        mutant[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      use(mutant, converts: index % 8 == 0)
    }
  }

  /// Opens, runs and converts a file, as far as it goes.
  private func use(_ bytes: [UInt8], converts: Bool) {
    do throws(QuantError) {
      var options = LanguageModel.Options()
      options.threads = 1
      options.memoryLimit = 64 << 20
      options.contextLength = nil
      let model = try LanguageModel(
        file: try GGUFFile(bytes: bytes, name: "mutant"), options: options)
      let session = try model.makeSession(contextLength: 4)
      var generation = GenerationOptions()
      generation.maximumTokens = 2
      _ = try session.generate(prompt: [3, 4], options: generation)
    } catch { check(error) }
    guard converts else { return }
    let folder = TemporaryFolder()
    let path = folder.write(bytes, "mutant.gguf")
    for target in [ConversionTarget.safetensors(.awq), .gguf(.q8_0)] {
      do throws(QuantError) {
        var options = ModelConverter.Options()
        options.memoryLimit = 64 << 20
        _ = try ModelConverter(
          source: path, target: target, options: options, pool: WorkerPool(threads: 1)
        ).write(to: folder.file("out"))
      } catch { check(error) }
    }
  }

  private func check(_ error: QuantError) {
    if error.problem.isEmpty || error.remedy.isEmpty || error.description.contains("\n") {
      Issue.record("\(error)")
    }
  }
}
