import QuantKernels

/// What a model can be converted to.
public enum ConversionTarget: Sendable, Equatable {
  /// A GGUF file whose matrices are of this type.
  case gguf(GGMLType)
  /// The package's own file of a ternary model, with a version and a checksum.
  case native
  /// A safetensors file with int4 layers in this format.
  case safetensors(Int4Tensors.Format)

  /// The GGUF types that can be written block by block from any weights.
  public static let ggufTypes: [GGMLType] = [.f32, .f16, .bf16, .q8_0, .q4_0, .q4_1]

  /// The ternary GGUF types that can be written. The embedding and the head stay F16.
  public static let ternaryTypes: [GGMLType] = [.tq1_0, .tq2_0, .i2_s]

  /// The names that ``init(named:)`` knows.
  public static var names: [String] {
    (ggufTypes + ternaryTypes).map { $0.name.lowercased() }
      + ["native", "awq", "gptq", "quick", "marlin"]
  }

  /// Types that exist but that no quantizer here writes.
  private static let readOnly = ["q5_0", "q5_1", "q4_k", "q5_k", "q6_k"]

  /// - Parameter name: one of ``names``, in any case.
  /// - Throws: `QuantError` `.invalidArgument` for an unknown name, `.unsupported` for a type
  ///   that is known but cannot be written.
  public init(named name: String) throws(QuantError) {
    let lower = name.lowercased()
    let types = ConversionTarget.ggufTypes + ConversionTarget.ternaryTypes
    if let type = types.first(where: { $0.name.lowercased() == lower }) {
      self = .gguf(type)
    } else if lower == "native" {
      self = .native
    } else if let format = [Int4Tensors.Format.awq, .gptq, .quick, .marlin].first(where: {
      $0.rawValue == lower
    }) {
      self = .safetensors(format)
    } else {
      let known = ConversionTarget.readOnly.contains(lower)
      throw QuantError(
        known ? .unsupported : .invalidArgument, "type \(name)",
        known ? "cannot be written" : "is not known",
        remedy: "choose one of \(ConversionTarget.names.joined(separator: ", "))")
    }
  }
}
