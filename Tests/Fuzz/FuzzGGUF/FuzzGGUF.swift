import LanguageModel
import QuantKernels

/// A GGUF file of any bytes: it is refused, or its model reads a few tokens.
///
/// A file that is a native container is rare in mutations, since its checksum must hold: the container's
/// own parser is reached by the first bytes alone.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: start, count: count))
  do throws(QuantError) {
    let file = try GGUFFile(bytes: bytes, name: "fuzz.gguf")
    for tensor in file.tensors {
      // What a tensor claims must lie in the file.
      var sum: UInt8 = 0
      for byte in file.bytes(of: tensor) { sum &+= byte }
      precondition(sum == sum)
    }
    _ = try? ChatTemplate(metadata: file.metadata)
    var options = LanguageModel.Options()
    options.threads = 1
    options.contextLength = 16
    options.memoryLimit = 64 << 20
    let model = try LanguageModel(file: file, options: options)
    let session = try model.makeSession()
    try session.forward([0, 1, 2], logits: 0..<3) { _, _ in }
  } catch {
    // A refusal says what, where and what to do.
    precondition(!error.problem.isEmpty && !error.subject.isEmpty && !error.remedy.isEmpty)
  }
  return 0
}

/// Writes files to begin with, one an architecture.
func writeSeeds(into folder: String) throws(QuantError) {
  for architecture in ModelConfiguration.Architecture.allCases {
    var model = SyntheticModel(architecture)
    model.layerCount = 1
    if !architecture.hasSubNorms {
      model.embeddingLength = 32
      model.feedForwardLength = 32
      model.headCount = 2
      model.keyValueHeadCount = 1
      model.headDimension = 16
      model.contextLength = 32
    }
    try model.write(to: "\(folder)/\(architecture.rawValue).gguf")
  }
}
