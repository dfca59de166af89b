import CQuantKernels

/// Where a call's queries and a worker's numbers lie.
extension LowRankWork {
  /// What queries of a unit become, `[heads][queries]` rows.
  struct Prepared {
    let floats: Int
    let digits: Int
    let scales: Int
    let bytes: Int
    let stride: Int

    init(_ work: LowRankWork, rows: Int) {
      let widest = max(work.d, work.layer.keyWidths.max() ?? 0)
      stride = LowRankLayer.padded(widest)
      floats = 0
      digits = (4 * (rows * stride + 16) + 63) / 64 * 64
      scales = digits + (2 * rows * qk_latent_padded(widest) + 63) / 64 * 64
      bytes = scales + (8 * rows + 63) / 64 * 64
    }

    struct Place {
      let floats: UnsafeMutablePointer<Float>
      let digits: UnsafeMutablePointer<Int8>
      let scales: UnsafeMutablePointer<Float>
    }

    func at(_ base: UnsafeMutableRawPointer, _ index: Int) -> Place {
      let own = base + index * bytes
      return Place(
        floats: own.assumingMemoryBound(to: Float.self),
        digits: (own + digits).assumingMemoryBound(to: Int8.self),
        scales: (own + scales).assumingMemoryBound(to: Float.self))
    }
  }

  /// A worker's memory.
  struct Scratch {
    let scores: Int
    let states: Int
    let angles: Int
    let sums: Int
    let seen: Int
    let kernel: Int
    let bytes: Int
    let stateBytes: Int

    init(_ work: LowRankWork, rows: Int, widest: Int) {
      var used = 0
      func place(_ bytes: Int) -> Int {
        defer { used += (bytes + 63) / 64 * 64 }
        return used
      }
      let layer = work.layer
      // Also where queries stand on their way through a product.
      scores = place(4 * rows * max(LowRankWork.partition, layer.headStride))
      stateBytes = (4 * rows * work.stateStride(widest) + 63) / 64 * 64
      states = place(3 * stateBytes)
      angles = place(2 * 4 * Int(QK_LATENT_BLOCKS) * layer.shape.rotaryPairs)
      // A head's sums of latents, and what they are projected to.
      let latents = layer.valueWidths.max() ?? 0
      sums = place(4 * rows * (latents + layer.headStride) + 64)
      seen = place(MemoryLayout<qk_latent_seen>.stride * rows)
      let width = max(layer.keyWidths.max() ?? 0, latents)
      kernel = place(qk_latent_scratch(rows, width, layer.shape.headDimension))
      bytes = used
    }

    struct Place {
      let scores: UnsafeMutablePointer<Float>
      /// Of a partition, of a run, and of all.
      let partition: UnsafeMutablePointer<Float>
      let run: UnsafeMutablePointer<Float>
      let total: UnsafeMutablePointer<Float>
      let angles: UnsafeMutablePointer<Float>
      let sums: UnsafeMutablePointer<Float>
      let seen: UnsafeMutablePointer<qk_latent_seen>
      let kernel: UnsafeMutableRawPointer
    }

    func at(_ base: UnsafeMutableRawPointer, _ worker: Int) -> Place {
      let own = base + worker * bytes
      func floats(_ offset: Int) -> UnsafeMutablePointer<Float> {
        (own + offset).assumingMemoryBound(to: Float.self)
      }
      return Place(
        scores: floats(scores), partition: floats(states), run: floats(states + stateBytes),
        total: floats(states + 2 * stateBytes), angles: floats(angles), sums: floats(sums),
        seen: (own + seen).assumingMemoryBound(to: qk_latent_seen.self), kernel: own + kernel)
    }
  }
}
