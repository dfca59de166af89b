import CDeviceModel

/// The one path that every access takes: check, count, move.
extension Warp {
  @usableFromInline
  mutating func moveShared(
    _ operation: Access.Operation, _ registers: UnsafeMutableRawPointer, width: Int,
    _ addresses: Lanes<UInt32>, mask: LaneMask, site: Int
  ) throws(DeviceError) {
    guard mask.rawValue != 0 else { return }
    try requireSite(site)
    try requireFaultless(addresses, mask, width, shared.byteCount, "shared", site)
    let isStore = operation == .store
    if isChecked {
      if isStore { try unsafe requireNoOverlap(registers, addresses, mask, width, site) }
      try checkShared(addresses, mask, width, isStore: isStore, site)
    }
    countShared(operation, addresses, mask, width, site)
    unsafe move(registers, shared.bytes, addresses, mask, width, isStore: isStore)
  }

  @usableFromInline
  mutating func moveGlobal(
    _ registers: UnsafeMutableRawPointer, width: Int, _ buffer: GlobalBuffer,
    _ offsets: Lanes<UInt32>, mask: LaneMask, isStore: Bool, site: Int
  ) throws(DeviceError) {
    guard mask.rawValue != 0 else { return }
    try requireSite(site)
    try requireFaultless(offsets, mask, width, buffer.byteCount, "global \(buffer.name)", site)
    if isChecked {
      if isStore { try unsafe requireNoOverlap(registers, offsets, mask, width, site) }
      try checkGlobal(buffer, offsets, mask, width, isStore: isStore, site)
    }
    countGlobal(offsets, mask, width, isStore: isStore, site)
    unsafe move(registers, buffer.bytes, offsets, mask, width, isStore: isStore)
  }

  private func move(
    _ registers: UnsafeMutableRawPointer, _ memory: UnsafeMutablePointer<UInt8>,
    _ addresses: Lanes<UInt32>, _ mask: LaneMask, _ width: Int, isStore: Bool
  ) {
    unsafe withUnsafeBytes(of: addresses) { raw in
      let lanes = unsafe raw.baseAddress?.assumingMemoryBound(to: UInt32.self)
      let words = unsafe registers.assumingMemoryBound(to: UInt32.self)
      if isStore {
        unsafe cdm_scatter(words, memory, lanes, mask.rawValue, UInt32(width))
      } else {
        unsafe cdm_gather(words, memory, lanes, mask.rawValue, UInt32(width))
      }
    }
  }

  // MARK: Counting

  mutating func countShared(
    _ operation: Access.Operation, _ addresses: Lanes<UInt32>, _ mask: LaneMask, _ width: Int,
    _ site: Int, lanes: Bool = true
  ) {
    let cost = unsafe sharedCost(operation, addresses, mask, width, &tally.sites[site])
    let active = mask.count
    unsafe tally.sites[site].shared.instructions += 1
    unsafe tally.sites[site].shared.wavefronts += cost.wavefronts
    unsafe tally.sites[site].shared.ideal += cost.ideal
    unsafe tally.sites[site].shared.bytes += active * width
    if lanes { unsafe tally.sites[site].laneAccesses += active }
  }

  private func sharedCost(
    _ operation: Access.Operation, _ addresses: Lanes<UInt32>, _ mask: LaneMask, _ width: Int,
    _ tally: inout SiteTally
  ) -> BankCost {
    // A shift of all addresses by a multiple of the unit turns the banks and changes no count.
    let unit = UInt32(max(4, width))
    let hit = unsafe withUnsafeBytes(of: addresses) {
      unsafe cdm_memo_hit(
        &tally.sharedMemo, $0.baseAddress?.assumingMemoryBound(to: UInt32.self), mask.rawValue,
        UInt32(width), unit)
    }
    if hit != 0, tally.operation == operation {
      let costs = tally.sharedMemo.costs
      return BankCost(wavefronts: Int(costs.0), ideal: Int(costs.1))
    }
    let access = Access(unchecked: operation, width: width, mask: mask, addresses: addresses)
    let cost = bankCost(access, policy: policy)
    if tally.example == nil {
      tally.example = access
      tally.exampleBlock = block
    }
    tally.operation = operation
    unsafe withUnsafeMutableBytes(of: &tally.sharedMemo.addresses) {
      unsafe $0.storeBytes(of: addresses, as: Lanes<UInt32>.self)
    }
    tally.sharedMemo.mask = mask.rawValue
    tally.sharedMemo.width = UInt32(width)
    tally.sharedMemo.costs = (UInt32(cost.wavefronts), UInt32(cost.ideal))
    return cost
  }

  mutating func countGlobal(
    _ offsets: Lanes<UInt32>, _ mask: LaneMask, _ width: Int, isStore: Bool, _ site: Int
  ) {
    let cost = unsafe sectorCost(offsets, mask, width, &tally.sites[site])
    let active = mask.count
    unsafe tally.sites[site].isGlobalStore = isStore
    unsafe tally.sites[site].global.requests += 1
    unsafe tally.sites[site].global.sectors += cost.sectors
    unsafe tally.sites[site].global.lines += cost.lines
    unsafe tally.sites[site].global.bytes += active * width
    unsafe tally.sites[site].laneAccesses += active
  }

  private func sectorCost(
    _ offsets: Lanes<UInt32>, _ mask: LaneMask, _ width: Int, _ tally: inout SiteTally
  ) -> GlobalCost {
    let hit = unsafe withUnsafeBytes(of: offsets) {
      unsafe cdm_memo_hit(
        &tally.globalMemo, $0.baseAddress?.assumingMemoryBound(to: UInt32.self), mask.rawValue,
        UInt32(width), 128)
    }
    if hit != 0 {
      let costs = tally.globalMemo.costs
      return GlobalCost(requests: 1, sectors: Int(costs.0), lines: Int(costs.1))
    }
    let cost = globalCost(addresses: offsets, mask: mask)
    unsafe withUnsafeMutableBytes(of: &tally.globalMemo.addresses) {
      unsafe $0.storeBytes(of: offsets, as: Lanes<UInt32>.self)
    }
    tally.globalMemo.mask = mask.rawValue
    tally.globalMemo.width = UInt32(width)
    tally.globalMemo.costs = (UInt32(cost.sectors), UInt32(cost.lines))
    return cost
  }

  // MARK: Checks

  /// Where an error happened: kernel, call site, block and warp.
  func place(_ site: Int) -> String {
    let name = siteNames.indices.contains(site) ? siteNames[site] : "site \(site)"
    return "\(kernelName), \(name), block \(block) warp \(index)"
  }

  func requireSite(_ site: Int) throws(DeviceError) {
    guard siteNames.indices.contains(site) else {
      throw DeviceError(
        .invalidArgument, place(site), "the kernel names \(siteNames.count) sites",
        remedy: "add the site's name to the kernel's list", limit: siteNames.count)
    }
  }

  func requireNarrow(_ width: Int, _ site: Int) throws(DeviceError) {
    guard width == 1 || width == 2 || width == 4 else {
      throw DeviceError(
        .invalidArgument, place(site), "an access of \(width) bytes to one register",
        remedy: "use 1, 2 or 4, or a wider register type")
    }
  }

  func requireFaultless(
    _ addresses: Lanes<UInt32>, _ mask: LaneMask, _ width: Int, _ limit: Int,
    _ memory: @autoclosure () -> String,
    _ site: Int
  ) throws(DeviceError) {
    let lane = unsafe withUnsafeBytes(of: addresses) {
      unsafe cdm_first_fault(
        $0.baseAddress?.assumingMemoryBound(to: UInt32.self), mask.rawValue, UInt32(width),
        UInt64(limit))
    }
    guard lane >= 0 else { return }
    throw fault(Int(lane), Int(addresses[Int(lane)]), width, limit, memory(), site)
  }

  private func fault(
    _ lane: Int, _ address: Int, _ width: Int, _ limit: Int, _ memory: String, _ site: Int
  ) -> DeviceError {
    if address % width != 0 {
      return DeviceError(
        .misaligned, place(site),
        "lane \(lane) accesses \(width) bytes at \(memory) address \(address), no multiple of \(width)",
        remedy: "align the layout", lane: lane, address: address, limit: width)
    }
    return DeviceError(
      .outOfRange, place(site),
      "lane \(lane) accesses \(width) bytes at \(memory) address \(address) of \(limit)",
      remedy: "mask the lane off or enlarge the memory", lane: lane, address: address,
      limit: limit)
  }

  func checkShared(
    _ addresses: Lanes<UInt32>, _ mask: LaneMask, _ width: Int, isStore: Bool,
    isPending: Bool = false, _ site: Int
  ) throws(DeviceError) {
    guard
      let found = shared.check(
        addresses, mask: mask, width: width, isStore: isStore, warp: index, epoch: epoch,
        isPending: isPending)
    else { return }
    let verb = isStore ? "writes" : "reads"
    let start = "lane \(found.lane) \(verb) shared address \(found.address)"
    switch found.fault {
    case .race(let warp):
      throw DeviceError(
        .race, place(site), "\(start), which warp \(warp) touches since the last barrier",
        remedy: "put a barrier between them", lane: found.lane, address: found.address)
    case .uninitialized:
      throw DeviceError(
        .uninitialized, place(site), "\(start), which nothing wrote",
        remedy: "store it first", lane: found.lane, address: found.address)
    case .pending(let warp):
      throw DeviceError(
        .pendingCopy, place(site),
        "\(start), which an asynchronous copy of warp \(warp) may still be filling",
        remedy: "commit and wait for the copy first", lane: found.lane, address: found.address)
    }
  }

  func checkGlobal(
    _ buffer: GlobalBuffer, _ offsets: Lanes<UInt32>, _ mask: LaneMask, _ width: Int,
    isStore: Bool, _ site: Int
  ) throws(DeviceError) {
    guard
      let found = globalChecks?.conflict(
        buffer, block: block, addresses: offsets, mask: mask, width: width, isStore: isStore)
    else { return }
    throw DeviceError(
      .race, place(site),
      "lane \(found.lane) \(isStore ? "writes" : "reads") address \(found.address) of global "
        + "\(buffer.name), which block \(found.block) touches in the same launch",
      remedy: "give each byte to one block, or use an ordered pass", lane: found.lane,
      address: found.address)
  }

  private func requireNoOverlap(
    _ registers: UnsafeMutableRawPointer, _ addresses: Lanes<UInt32>, _ mask: LaneMask,
    _ width: Int, _ site: Int
  ) throws(DeviceError) {
    let words = unsafe registers.assumingMemoryBound(to: UInt32.self)
    func byte(_ lane: Int, _ index: Int) -> UInt8 {
      unsafe UInt8(truncatingIfNeeded: words[32 * (index / 4) + lane] >> UInt32(8 * (index % 4)))
    }
    var owners: [Int: Int] = [:]
    for lane in 0..<32 where mask[lane] {
      guard let other = owners.updateValue(lane, forKey: Int(addresses[lane])) else { continue }
      // Addresses are multiples of the width, so accesses coincide or are disjoint.
      guard (0..<width).allSatisfy({ byte(lane, $0) == byte(other, $0) }) else {
        throw DeviceError(
          .overlap, place(site),
          "lanes \(other) and \(lane) store different values to address \(addresses[lane])",
          remedy: "mask one of them off", lane: lane, address: Int(addresses[lane]))
      }
    }
  }
}
