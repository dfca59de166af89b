/// One step of a storage order, from the fastest-moving to the slowest.
///
/// A weight at output n and input k stands in a fragment; its place is four numbers:
///
///     lane, element      inside the fragment, by the instruction's map
///     output tile        n div the fragment's outputs
///     input tile         k div the fragment's inputs
///
/// A storage order cuts these numbers into digits `(index / above) % extent` and says in which
/// order the digits count memory cells. Digits that come first choose the nibble in a word, later
/// ones the word in a vector, the last the block. `above` is the product of the same index's less
/// significant digits.
public enum StorageStep: Sendable, Hashable {
  /// `(lane / above) % extent`.
  case lane(_ extent: Int, above: Int = 1)
  /// `(element / above) % extent`.
  case element(_ extent: Int, above: Int = 1)
  /// `(outputTile / above) % extent`.
  case outputTile(_ extent: Int, above: Int = 1)
  /// `(inputTile / above) % extent`.
  case inputTile(_ extent: Int, above: Int = 1)
  /// `outputTile / above`: whatever is left of the outputs; exactly one in an order.
  case outputRest(above: Int)
  /// `inputTile / above`: whatever is left of the inputs; exactly one in an order.
  case inputRest(above: Int)
  /// Everything so far stands this many times, one copy behind the other.
  case copies(_ count: Int)
  /// This many unused bits behind everything so far; at most one in an order. Room for a block's
  /// scales.
  case gap(bits: Int)
}
