import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writes a model in another type or format.
///
/// - GGUF to GGUF: matrices of linear layers, the embedding and the head are requantized;
///   everything of one dimension stays float32. A matrix whose rows are no whole number of the
///   type's blocks becomes F16.
/// - GGUF to native: the same with ternary matrices, in this package's own file.
/// - GGUF or float safetensors to int4 safetensors: linear layers are quantized (Q4_0 layers are
///   repacked as they stand), the rest becomes F16, under Hugging Face's names.
/// - int4 safetensors to int4 safetensors: a repack by integer moves; every other tensor is copied.
/// - GGUF or a Hugging Face directory to such a directory, where the output is named with a slash at
///   its end or is a folder: weights in F32, F16 or BF16, packed ternary for `native`, or int4 layers,
///   with everything of one dimension in float32; configuration and tokenizer beside them.
/// - A Hugging Face directory to GGUF as from GGUF.
///
/// The file or folder appears whole or not at all.
public struct ModelConverter {
  /// What a conversion is asked for beside its target.
  public struct Options: Sendable, Equatable {
    /// Type of the embedding and the head when it is not that of the other matrices; GGUF only.
    public var embeddingType: GGMLType?
    /// Inputs that share a scale in int4 safetensors; nil takes the largest of 128, 64 and 32 that
    /// divides all layers, and 32 where the source's Q4_0 groups can be kept.
    public var groupSize: Int?
    /// No zero points in int4 safetensors that are quantized here. Marlin never has them.
    public var symmetric = false
    /// A text over which GPTQ takes its Hessians: GGUF to GPTQ only. Nil rounds to nearest.
    public var calibrationText: [UInt8]?
    /// At most so many tokens of it.
    public var calibrationTokens = 32768
    /// Quantizes inputs in order of their size over the calibration text (`desc_act`).
    public var actOrder = false
    /// Moves the act-order of down projections into gate and up (the TP-aware pass), once: the file's
    /// metadata says so. Of int4 safetensors, or with a calibration text; then the order of
    /// attention's output projections stays inside heads, and is moved into the values.
    public var movesInputOrder = false
    /// What `weight_scale` means in directories of packed ternary layers.
    public var ternaryConvention = HuggingFaceTernary.ScaleConvention.multiplier
    /// Bytes that the conversion may take; nil means the machine's memory.
    public var memoryLimit: Int?

    /// The defaults.
    public init() {}
  }

  /// What was written.
  public struct Summary: Sendable, Equatable {
    /// Tensors in the new file.
    public var tensors = 0
    /// Matrices that are in the wanted type or format.
    public var converted = 0
    /// Of these, how many carry the source's codes and scales bit for bit.
    public var exact = 0
    /// Matrices that do not fit the type and became F16 instead.
    public var fallbacks: [String] = []
    /// Inputs that share a scale, for int4 safetensors.
    public var groupSize: Int?
    /// What calibration gained; nil without one.
    public var calibration: CalibrationSummary?
    /// Feed-forward blocks whose order was moved.
    public var movedBlocks = 0
    /// Attentions whose order was moved.
    public var movedAttentions = 0
    /// The format of int4 layers: that asked for, or GPTQ's second version where it takes that.
    public var format: Int4Tensors.Format?
  }

  /// How far the outputs of calibrated layers are from the original's, over the calibration text:
  /// squared error relative to the squared outputs.
  public struct CalibrationSummary: Sendable, Equatable {
    /// One layer's.
    public struct Layer: Sendable, Equatable {
      /// Its name.
      public let name: String
      /// Of what was written.
      public let error: Double
      /// Of rounding to nearest, with the search for each group's best scale.
      public let roundingError: Double
    }

    /// Tokens that were read.
    public var tokens = 0
    /// All calibrated layers.
    public var layers: [Layer] = []

    /// Mean over the layers.
    public var error: Double { mean(\.error) }
    /// Mean over the layers.
    public var roundingError: Double { mean(\.roundingError) }

    private func mean(_ path: KeyPath<Layer, Double>) -> Double {
      layers.reduce(0) { $0 + $1[keyPath: path] } / Double(max(layers.count, 1))
    }
  }

  /// Path of the file that is read.
  public let source: String
  /// What is written.
  public let target: ConversionTarget
  /// What else was asked for.
  public let options: Options
  let pool: WorkerPool

  /// Describes a conversion; no file is opened before ``write(to:isCancelled:progress:)``.
  public init(
    source: String, target: ConversionTarget, options: Options = Options(),
    pool: WorkerPool = .standard
  ) {
    self.source = source
    self.target = target
    self.options = options
    self.pool = pool
  }

  /// Converts.
  ///
  /// - Parameters:
  ///   - isCancelled: asked between pieces of work.
  ///   - progress: called with the share done, 0…1.
  ///   - path: where the file is to appear.
  /// - Throws: `QuantError` as the readers and writers; `.unsupported` when the target cannot
  ///   hold the source (an int4 model as GGUF, zero points in Marlin, a shape that a format does
  ///   not cover); `.invalidArgument` for an output that is the source, or a folder that holds other
  ///   files; `.cancelled`.
  /// - Complexity: O(weights) time; memory of one matrix for GGUF, of the new file for safetensors.
  public func write(
    to path: String, isCancelled: @escaping @Sendable () -> Bool = { false },
    progress: ((Double) -> Void)? = nil
  ) throws(QuantError) -> Summary {
    try refuseSource([source], as: path)
    try checkCalibration()
    let kind = try ModelFileKind(path: source)
    if options.movesInputOrder, kind == .gguf, options.calibrationText == nil {
      throw QuantError(
        .unsupported, source, "has no int4 layers whose order could be moved",
        remedy: "convert it to gptq with act-order and a calibration text")
    }
    if kind == .directory {
      // The output must be none of the directory's files either.
      let files = try SafetensorsModel(path: source).files.map(\.path)
      try refuseSource(files + HuggingFaceExport.names.map { "\(source)/\($0)" }, as: path)
    }
    let work = Work(isCancelled: isCancelled, progress: progress)
    if Self.isDirectory(path) { return try writeDirectory(to: path, work) }
    switch (kind, target) {
    case (.gguf, .gguf(let type)), (.directory, .gguf(let type)):
      return try requantize(try GGUFFile(path: source), to: type, path: path, work)
    case (.gguf, .native), (.directory, .native):
      // Ternary as I2_S is, in an order of its own.
      return try requantize(try GGUFFile(path: source), to: .i2_s, path: path, work)
    case (.gguf, .safetensors(let format)):
      return try exportLayers(
        of: try GGUFCheckpoint(try GGUFFile(path: source)), as: format, path: path, work)
    case (.safetensors, .safetensors(let format)), (.directory, .safetensors(let format)):
      let model = try SafetensorsModel(path: source)
      try refuseSource(model.files.map(\.path), as: path)
      if model.tensors.contains(where: { Int4Layers.isWeight($0.name) }) {
        return try repack(model, to: format, path: path, work)
      }
      if options.movesInputOrder {
        throw QuantError(
          .unsupported, source, "has no int4 layers whose order could be moved",
          remedy: "convert it to gptq with act-order first")
      }
      return try exportLayers(
        of: try SafetensorsCheckpoint(model, path: source), as: format, path: path, work)
    case (.safetensors, .gguf), (.safetensors, .native):
      throw QuantError(
        .unsupported, source, "a safetensors file has no tokenizer, which a GGUF file needs",
        remedy: "name the whole Hugging Face directory, with config.json and tokenizer.json")
    }
  }

  /// - Throws: `QuantError` for a calibration that the target does not take, or an act-order without
  ///   one.
  private func checkCalibration() throws(QuantError) {
    guard options.calibrationText != nil else {
      if options.actOrder {
        throw QuantError(
          .invalidArgument, "act-order", "there is no calibration text to order inputs by",
          remedy: "give one")
      }
      return
    }
    guard target == .safetensors(.gptq), try ModelFileKind(path: source) != .safetensors else {
      throw QuantError(
        .unsupported, "calibration", "only whole models are calibrated, to GPTQ",
        remedy: "convert a GGUF file or a directory to gptq, or leave the calibration out")
    }
    guard options.calibrationTokens >= 2 else {
      throw QuantError(
        .invalidArgument, "calibration", "\(options.calibrationTokens) tokens",
        remedy: "read at least a few thousand")
    }
  }

  /// - Throws: `QuantError` when the output is one of the sources, by whatever path or link.
  private func refuseSource(_ sources: [String], as output: String) throws(QuantError) {
    func identity(_ path: String) -> [UInt64]? {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      return [UInt64(truncatingIfNeeded: status.st_dev), UInt64(truncatingIfNeeded: status.st_ino)]
    }
    let written = identity(output)
    for path in sources where path == output || (written != nil && identity(path) == written) {
      throw QuantError(
        .invalidArgument, output, "is both source and output", remedy: "write to another path")
    }
  }

  /// - Throws: `QuantError` `.outOfMemory` when the products of a conversion exceed what is
  ///   there.
  func checkMemory(_ needed: [[Int]]) throws(QuantError) {
    try MemoryRequirement.check(
      MemoryRequirement.sum(needed), limit: options.memoryLimit ?? MemoryRequirement.availableBytes,
      subject: source, remedy: "convert a smaller model, or on a machine with more memory")
  }

  /// Cancellation and progress of one conversion.
  struct Work {
    let isCancelled: @Sendable () -> Bool
    let progress: ((Double) -> Void)?

    func check() throws(QuantError) {
      if isCancelled() {
        throw QuantError(
          .cancelled, "conversion", "the work was cancelled", remedy: "start it again when wanted")
      }
    }

    func report(_ done: Int, of all: Int) { progress?(Double(done) / Double(max(all, 1))) }
  }
}
