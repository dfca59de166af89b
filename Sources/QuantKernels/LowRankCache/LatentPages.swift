import CQuantKernels

/// Where in a page the blocks of a cache's groups lie: group after group of keys, then of values,
/// each one block of 16 positions after another.
struct LatentPages: Sendable, Equatable {
  /// One group's share of a page.
  struct Group: Sendable, Equatable {
    let type: LatentType
    let width: Int
    let blockBytes: Int
    /// From the page's beginning.
    let offset: Int
  }

  let keys: [Group]
  let values: [Group]
  let blocksPerPage: Int
  let pageBytes: Int

  /// - Throws: ``QuantError`` `.outOfMemory` when no address holds a page.
  init(
    keyType: LatentType, keyWidths: [Int], valueType: LatentType, valueWidths: [Int],
    blocksPerPage: Int
  ) throws(QuantError) {
    var offset = 0
    func place(_ type: LatentType, _ widths: [Int]) throws(QuantError) -> [Group] {
      var groups: [Group] = []
      for width in widths {
        let bytes = qk_latent_block_bytes(type.kernelType, width)
        groups.append(Group(type: type, width: width, blockBytes: bytes, offset: offset))
        let (size, overflows) = bytes.multipliedReportingOverflow(by: blocksPerPage)
        let (next, overflowsSum) = offset.addingReportingOverflow(size)
        guard !overflows, !overflowsSum else {
          throw QuantError(
            .outOfMemory, "low-rank cache",
            "\(blocksPerPage) blocks of 16 positions exceed the address space",
            remedy: "use a shorter context")
        }
        offset = next
      }
      return groups
    }
    keys = try place(keyType, keyWidths)
    values = try place(valueType, valueWidths)
    self.blocksPerPage = blocksPerPage
    pageBytes = offset
  }

  /// Bytes of a position, all groups: Σ (⌈r·b/8⌉ + 4) for packed latents.
  var bytesPerPosition: Int {
    (keys + values).reduce(0) { $0 + $1.blockBytes } / LatentType.block
  }
}

/// The pages of one sequence, as kernels look them up. Its memory belongs to the cache.
struct LatentView {
  let pages: LatentPages
  let base: UnsafeMutableRawPointer
  let table: UnsafePointer<Int32>
  let count: Int
  /// Positions that there is room for.
  let capacity: Int

  func block(_ group: LatentPages.Group, _ index: Int) -> UnsafeMutableRawPointer {
    let page = Int(table[index / pages.blocksPerPage])
    return base + page * pages.pageBytes + group.offset
      + index % pages.blocksPerPage * group.blockBytes
  }

  /// Pointers to a partition's blocks and those of the next; past the last position, the last block
  /// again.
  func fill(
    _ pointers: UnsafeMutablePointer<UnsafeRawPointer>, _ group: LatentPages.Group, partition: Int
  ) {
    let last = (count - 1) / LatentType.block
    let first = partition * Int(QK_LATENT_BLOCKS)
    for index in 0..<Int(QK_LATENT_POINTERS) {
      pointers[index] = UnsafeRawPointer(block(group, min(first + index, last)))
    }
  }
}
