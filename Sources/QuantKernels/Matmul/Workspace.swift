import CQuantKernels

/// Scratch memory of products: quantised activations, unpacked panels, tiles of floats.
///
/// Owned by whoever calls them and used by one call at a time. It grows to the largest call and is
/// then reused, so that a decode step allocates nothing.
public final class Workspace: @unchecked Sendable {
  package private(set) var codes: UnsafeMutablePointer<Int8>
  package private(set) var scales: UnsafeMutablePointer<Float>
  package private(set) var sums: UnsafeMutablePointer<Float>
  package private(set) var initials: UnsafeMutablePointer<Int32>
  package private(set) var floats: UnsafeMutablePointer<Float>
  package private(set) var panels: UnsafeMutableRawPointer
  package private(set) var permuted: UnsafeMutablePointer<Float>
  /// Some inputs of a product that is made part by part, and a part's products.
  package private(set) var taken: UnsafeMutablePointer<Float>
  package private(set) var products: UnsafeMutablePointer<Float>
  private var capacity = (activations: 0, floats: 0, panels: 0, permuted: 0, taken: 0, products: 0)
  private var owned: [Int: AlignedBuffer] = [:]

  /// No memory yet; it grows on first use and is kept.
  public init() {
    // Never read before `reserve` replaces them.
    let nothing = UnsafeMutableRawPointer(Workspace.empty)
    codes = nothing.assumingMemoryBound(to: Int8.self)
    scales = nothing.assumingMemoryBound(to: Float.self)
    sums = scales
    initials = nothing.assumingMemoryBound(to: Int32.self)
    floats = scales
    panels = nothing
    permuted = scales
    taken = scales
    products = scales
  }

  private nonisolated(unsafe) static let empty = UnsafeMutableRawPointer.allocate(
    byteCount: 64, alignment: 64)

  private func buffer(_ slot: Int, _ bytes: Int) throws(QuantError) -> UnsafeMutableRawPointer {
    owned[slot] = nil
    let fresh = try AlignedBuffer(count: bytes, for: "workspace of a matrix product")
    owned[slot] = fresh
    return fresh.base
  }

  /// Room for `elements` int8 activations with their group scales, sums and initial values.
  package func reserveActivations(_ elements: Int) throws(QuantError) {
    if elements <= capacity.activations { return }
    let groups = elements / Int(QK_GROUP)
    codes = try buffer(0, elements).assumingMemoryBound(to: Int8.self)
    scales = try buffer(1, 4 * groups).assumingMemoryBound(to: Float.self)
    sums = try buffer(2, 4 * groups).assumingMemoryBound(to: Float.self)
    initials = try buffer(3, 8 * groups).assumingMemoryBound(to: Int32.self)
    capacity.activations = elements
  }

  /// Room for `elements` float activations in tile order.
  package func reserveFloats(_ elements: Int) throws(QuantError) {
    if elements <= capacity.floats { return }
    floats = try buffer(4, 4 * elements).assumingMemoryBound(to: Float.self)
    capacity.floats = elements
  }

  /// Room for `bytes` of unpacked panels.
  package func reservePanels(_ bytes: Int) throws(QuantError) {
    if bytes <= capacity.panels { return }
    panels = try buffer(5, bytes)
    capacity.panels = bytes
  }

  /// Room for `elements` activations in act-order.
  package func reservePermuted(_ elements: Int) throws(QuantError) {
    if elements <= capacity.permuted { return }
    permuted = try buffer(6, 4 * elements).assumingMemoryBound(to: Float.self)
    capacity.permuted = elements
  }

  /// Room for a product that is made part by part.
  package func reserveParts(taken: Int, products: Int) throws(QuantError) {
    if taken > capacity.taken {
      self.taken = try buffer(7, 4 * taken).assumingMemoryBound(to: Float.self)
      capacity.taken = taken
    }
    if products > capacity.products {
      self.products = try buffer(8, 4 * products).assumingMemoryBound(to: Float.self)
      capacity.products = products
    }
  }
}
