import QuantKernels

/// In which order rows of a model must stand in a GGUF file: those of a directory's llama model, whose
/// Q and K are in Hugging Face's order, are permuted; all others stay.
struct RowOrders {
  private let checkpoint: GGUFCheckpoint?

  init(of file: GGUFFile) throws(QuantError) {
    let isUnpermuted =
      file.metadata.string("general.architecture") == "llama"
      ? try ModelConfiguration.llamaRotaryStyle(file.metadata) == .halves : false
    checkpoint = isUnpermuted ? try GGUFCheckpoint(file, isPermuted: true) : nil
  }

  /// Row i of the GGUF tensor is row `order[i]` of this one; nil where they agree.
  func order(_ tensor: GGUFTensor) throws(QuantError) -> [Int32]? {
    guard let order = try checkpoint?.rowOrder(tensor) else { return nil }
    return try Permutation(order).inverse.order
  }
}
