/// How the hidden channels of an act-order feed-forward block reach the ranks that need them.
///
/// The up projection's outputs are cut over the ranks in their own order, the down projection's
/// inputs in the order of its groups; all schemes end with one all-reduce.
public enum TensorParallelScheme: String, Sendable, Hashable, CaseIterable {
  /// All-gather of all hidden channels, a permutation of all, and each rank keeps its part.
  case naive
  /// All-to-all of the channels that each rank needs, and no others.
  case allToAll = "alltoall"
  /// No exchange: each rank keeps the inputs that it has, sorts them by group, and holds scales of
  /// every group (vLLM's Marlin).
  case localSort = "local-sort"
  /// No exchange: the up projection's outputs were put into the needed order offline (Hoque et al.,
  /// arXiv 2402.04925).
  case tpAware = "tp-aware"
}

/// What the schemes are compared by, of one call on one rank.
public struct TensorParallelCounters: Sendable, Hashable {
  /// Elements gathered at run time: inputs by P1, hidden channels by what the scheme needs.
  public var gatheredElements = 0
  /// Elements of the largest buffer of hidden channels: M · N1 for naive, M · N1/T for the others.
  public var largestIntermediate = 0
  /// How often the group changes while the rank streams its part of the down projection.
  public var groupSwitches = 0
  /// Bytes of that part's scales in binary16, each group that the rank touches once.
  public var scaleBytes = 0
  /// What the rank sent.
  public var traffic = CommunicationTraffic()

  /// Nothing.
  public init() {}
}
