import QuantKernels

/// A model of floats or blocks, seen as a Hugging Face checkpoint: its tensors under that library's
/// names and in its order of rows, so that int4 layers can be made of them.
protocol Checkpoint {
  var entries: [CheckpointEntry] { get }

  /// Rows of a tensor as floats, row-major.
  func floats(_ entry: CheckpointEntry) throws(QuantError) -> [Float]

  /// The layer's codes and scales as they stand, if they are int4 that a symmetric or zero-point
  /// format holds.
  func int4(_ entry: CheckpointEntry) throws(QuantError) -> Int4Matrix?
}

/// One tensor of a checkpoint.
struct CheckpointEntry {
  /// Hugging Face's name: `model.layers.0.mlp.up_proj.weight`.
  let name: String
  /// The slowest first.
  let shape: [Int]
  /// Whether it is the weight of a linear layer inside the model, which is what int4 formats
  /// quantize.
  let isLinear: Bool
  /// Whether its codes may be kept: the source is int4 in groups of 32.
  let isInt4: Bool
  /// Its number in the source.
  let index: Int
}
