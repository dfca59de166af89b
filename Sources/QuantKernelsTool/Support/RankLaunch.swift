import QuantKernels

/// What a launcher of ranks (`mpirun`, `mpiexec`, `srun --mpi`) says in the environment of the
/// processes that it starts.
struct RankLaunch: Equatable {
  let rank: Int
  let ranks: Int

  init(rank: Int, ranks: Int) {
    self.rank = rank
    self.ranks = ranks
  }

  /// Nil where no launcher has started the process.
  init?(environment: (String) -> String?) {
    // Open MPI; the process managers of MPICH and Intel MPI.
    for (rank, ranks) in [
      ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"),
    ] {
      guard let count = environment(ranks).flatMap({ Int($0) }), count > 0 else { continue }
      self.init(rank: environment(rank).flatMap { Int($0) } ?? 0, ranks: count)
      return
    }
    return nil
  }

  /// Why several processes of one launch must not run: without MPI each would do all of the work.
  /// Nil for one.
  ///
  /// - Parameter isBuiltIn: whether MPI is.
  func refusal(isBuiltIn: Bool) -> QuantError? {
    if isBuiltIn || ranks == 1 { return nil }
    return QuantError(
      .unsupported, "mpirun", "has started \(ranks) ranks, and MPI is not built in",
      remedy: "build with --traits MPI, or use --ranks \(ranks) without mpirun")
  }

  /// Why Open MPI cannot connect what the launcher has started; nil when it sees as many.
  func refusal(connected: Int) -> QuantError? {
    if connected == ranks { return nil }
    return QuantError(
      .unsupported, "mpirun", "has started \(ranks) ranks, and Open MPI sees \(connected)",
      remedy: "start them by the mpirun of Open MPI")
  }
}
