/// Which part of a cache lies in the host's memory.
public enum KeyValuePlacement: Sendable, Hashable, CustomStringConvertible {
  /// Whole layers of that number, spread evenly; the others are on the devices.
  case layers(onHost: Int)
  /// The first tokens of every layer; the others are on the devices.
  case tokens(onHost: Int)

  /// Whether nothing is on the host.
  public var isAllOnDevice: Bool {
    switch self {
    case .layers(let count), .tokens(let count): count == 0
    }
  }

  public var description: String {
    switch self {
    case .layers(let count): "\(count) layers on the host"
    case .tokens(let count): "the first \(count) tokens of every layer on the host"
    }
  }

  /// Layers of the host among `layers`, ascending: as evenly as whole numbers allow, so that
  /// transfers and device work of neighbors interleave.
  ///
  /// Layer ⌊(2 i + 1) n / (2 k)⌋ for i < k of n: gaps differ by at most one.
  public static func spread(_ count: Int, over layers: Int) -> [Int] {
    guard count > 0, layers > 0 else { return [] }
    let count = min(count, layers)
    return (0..<count).map { (2 * $0 + 1) * layers / (2 * count) }
  }
}

/// What happens to the host's part of a cache when attention needs it.
public enum HostPart: String, Sendable, Hashable, CaseIterable {
  /// The host computes: queries go to it, partial results come back.
  case computed
  /// It is copied to the devices, piece by piece, and computed there.
  case copied
}
