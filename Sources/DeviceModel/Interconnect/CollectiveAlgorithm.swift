/// How devices add up what each of them holds.
public enum CollectiveAlgorithm: String, Sendable, Hashable, CaseIterable {
  /// Segments travel around the rings, first adding up, then spreading.
  case ring
  /// Binomial trees: whole messages are added up towards device 0, then spread from it.
  case tree
  /// Every device collects one segment from all others at once, then sends it to all of them.
  case direct
}
