import CQuantKernels

extension LowRankLayer {
  /// Latents of tokens, `A x`, group after group: what ``LowRankCache`` takes, but for whole keys.
  ///
  /// Each number is a chain of fused multiply-adds over the token's elements in ascending order, or
  /// of packed factors the integer product of ``PackedWeights``: the same bits for every number of
  /// tokens and threads. Allocates nothing once the workspace has grown.
  ///
  /// - Parameters:
  ///   - x: `[count × modelWidth]`.
  ///   - latents: room for `count × (Σr rounded up to 16)` floats; `[count × Σr]` on return.
  ///   - kind: keys or values.
  ///   - count: tokens.
  ///   - instructionSet: the float kernels' instruction set; the best of this processor unless
  ///     stated.
  ///   - workspace: scratch of the integer product.
  ///   - pool: the threads that take part.
  /// - Throws: ``QuantError`` `.outOfMemory` when the workspace cannot grow.
  /// - Complexity: `count · modelWidth · Σr` multiply-accumulates.
  public func project(
    _ kind: LowRankFactors.Kind, _ x: UnsafePointer<Float>, count: Int,
    into latents: UnsafeMutablePointer<Float>, instructionSet: InstructionSet = .best,
    workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let width = inputWidth(kind)
    guard count > 0, width > 0, kind == .value || keyMode != .rotated else { return }
    if let packed = packedDown(kind) {
      return try packed.multiply(
        x, count: count, into: latents, outputStride: width, workspace: workspace, pool: pool)
    }
    guard let weights = down(kind) else { return }
    let task = Projection(
      x: x, depth: shape.modelWidth, count: count, weights: weights,
      stride: Self.padded(width), latents: latents,
      kernels: qk_latent_kernels_for(instructionSet.kernelTableIdentifier))
    pool.run(parts: task.columnParts * task.rowParts, task)
    // Rows stood a whole number of vectors apart.
    guard task.stride != width else { return }
    for row in 1..<max(count, 1) {
      (latents + row * width).update(from: latents + row * task.stride, count: width)
    }
  }

  private struct Projection: ParallelTask {
    let x: UnsafePointer<Float>
    let depth: Int
    let count: Int
    let weights: UnsafePointer<Float>
    let stride: Int
    let latents: UnsafeMutablePointer<Float>
    let kernels: UnsafePointer<qk_latent_kernels>

    /// Columns and rows of a part: a decode step has work for several threads, a prompt's rows share
    /// each pass over the weights.
    private static let columns = 64
    private static let rows = 48
    var columnParts: Int { (stride + Self.columns - 1) / Self.columns }
    var rowParts: Int { (count + Self.rows - 1) / Self.rows }

    func run(part: Int, worker: Int) {
      let column = part % columnParts * Self.columns
      let row = part / columnParts * Self.rows
      kernels.pointee.product(
        x + row * depth, depth, min(Self.rows, count - row), depth, weights + column, stride,
        min(Self.columns, stride - column), latents + row * stride + column, stride)
    }
  }
}
