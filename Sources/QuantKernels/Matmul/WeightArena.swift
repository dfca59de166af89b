import Synchronization

/// Where packed weights live: one matrix behind the other in stretches of huge pages.
///
/// A layer's matrix is often smaller than a huge page. On pages of 4 KiB the processor's prefetcher
/// stops at each page's end, and decoding SmolLM2 read its int4 weights at 16 GB/s where the same
/// kernels stream 28 from a huge page. Side by side, the layers are also one forward stream in the
/// order in which they are packed and used.
///
/// A stretch is returned to the system when the last matrix in it is.
final class WeightArena: Sendable {
  static let shared = WeightArena()

  /// Bytes of a stretch; pages that no matrix reaches are never touched.
  private static let stretchBytes = 64 << 20

  private struct Stretch {
    /// Kept alive by its slices alone, so that an unused rest does not outlive them.
    weak var buffer: AlignedBuffer?
    var used = 0
  }

  private let open = Mutex(Stretch())

  /// Zeroed bytes, aligned to a cache line.
  ///
  /// - Throws: ``QuantError`` (`outOfMemory`) when the system refuses.
  func allocate(_ count: Int, for subject: String) throws(QuantError) -> AlignedBuffer {
    guard count < WeightArena.stretchBytes else {
      return try AlignedBuffer(count: count, for: subject)
    }
    let result = open.withLock { stretch -> Result<AlignedBuffer, QuantError> in
      if let buffer = stretch.buffer, stretch.used + count <= buffer.count {
        defer { stretch.used += (count + 63) / 64 * 64 }
        return .success(AlignedBuffer(sliceOf: buffer, offset: stretch.used, count: count))
      }
      do throws(QuantError) {
        let buffer = try AlignedBuffer(count: WeightArena.stretchBytes, for: subject)
        stretch = Stretch(buffer: buffer, used: (count + 63) / 64 * 64)
        return .success(AlignedBuffer(sliceOf: buffer, offset: 0, count: count))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
