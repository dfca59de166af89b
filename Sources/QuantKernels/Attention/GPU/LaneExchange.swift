import DeviceModel

/// Words of a warp that change lanes: from where an instruction left them to where the next one wants
/// them, by `shfl.bfly` alone.
///
/// Lane ℓ wants some words and has some. Word for word the plan takes a lane's own where it can, and
/// else shuffles: the k-th shuffle over distance x gives every lane the k-th word that it wants from
/// lane ℓ xor x. A shuffle gives a lane one word, so no plan has fewer shuffles than any one lane's
/// words that are not its own (``leastShuffles``); equality is tested.
struct LaneExchange: Sendable {
  /// A word's name, the same wherever it stands.
  struct Word: Hashable, Sendable {
    let row: Int
    let pair: Int
  }

  /// One shuffle: over what distance, which word each lane sends, and which of its wanted words it
  /// gets (−1: none).
  struct Shuffle: Sendable {
    let distance: Int
    let sent: [Int]
    let received: [Int]
  }

  let shuffles: [Shuffle]
  /// `[wanted word][lane]`: the own word that it is, or −1.
  let kept: [[Int]]
  /// Instructions that pick registers by lane, beside the shuffles.
  let selects: Int
  /// The most words that a lane wants and does not have.
  let leastShuffles: Int
  private let wantedCount: Int

  /// - Parameters:
  ///   - owned: the words in each lane's registers.
  ///   - wanted: the words that each lane needs, in order; every one is owned by some lane.
  init(owned: [[Word]], wanted: [[Word]]) {
    wantedCount = wanted[0].count
    var kept = Array(repeating: Array(repeating: -1, count: 32), count: wanted[0].count)
    // By distance, for each lane: (own word of the partner, wanted word here).
    var moves: [Int: [[(source: Int, target: Int)]]] = [:]
    for lane in 0..<32 {
      for (index, word) in wanted[lane].enumerated() {
        let distances = [0] + (1..<32)
        for distance in distances {
          guard let source = owned[lane ^ distance].firstIndex(of: word) else { continue }
          if distance == 0 {
            kept[index][lane] = source
          } else {
            moves[distance, default: Array(repeating: [], count: 32)][lane].append((source, index))
          }
          break
        }
      }
    }
    var shuffles: [Shuffle] = []
    for (distance, lanes) in moves.sorted(by: { $0.key < $1.key }) {
      for round in 0..<(lanes.map(\.count).max() ?? 0) {
        var sent = Array(repeating: 0, count: 32)
        var received = Array(repeating: -1, count: 32)
        for lane in 0..<32 where round < lanes[lane].count {
          sent[lane ^ distance] = lanes[lane][round].source
          received[lane] = lanes[lane][round].target
        }
        shuffles.append(Shuffle(distance: distance, sent: sent, received: received))
      }
    }
    self.shuffles = shuffles
    self.kept = kept
    leastShuffles = (0..<32).reduce(0) { most, lane in
      max(most, wanted[lane].count { !owned[lane].contains($0) })
    }
    // A register that differs by lane costs one select for each choice beyond the first.
    var selects = shuffles.reduce(0) { $0 + Set($1.sent).count - 1 }
    for index in 0..<wantedCount {
      var sources = Set(kept[index].filter { $0 >= 0 })
      for (number, shuffle) in shuffles.enumerated() where shuffle.received.contains(index) {
        sources.insert(1000 + number)
      }
      selects += sources.count - 1
    }
    self.selects = selects
  }

  /// Moves the words.
  func callAsFunction(_ words: [Lanes<UInt32>], _ warp: inout Warp) -> [Lanes<UInt32>] {
    var result = Array(repeating: Lanes<UInt32>(), count: wantedCount)
    for index in 0..<wantedCount {
      for lane in 0..<32 where kept[index][lane] >= 0 {
        result[index][lane] = words[kept[index][lane]][lane]
      }
    }
    for shuffle in shuffles {
      var sent = Lanes<UInt32>()
      for lane in 0..<32 { sent[lane] = words[shuffle.sent[lane]][lane] }
      let got = warp.shuffle(sent, xor: shuffle.distance)
      for lane in 0..<32 where shuffle.received[lane] >= 0 {
        result[shuffle.received[lane]][lane] = got[lane]
      }
    }
    warp.count(.integer, selects)
    return result
  }
}
