import QuantKernels
import TestSupport
import Testing

@Suite("Masks by rule")
struct TileMaskTests {
  /// The definition, position by position.
  private func isVisible(_ mask: TileMask, row: Int, key: Int) -> Bool {
    let position = row + mask.offset
    if mask.isCausal, key > position, key >= mask.prefix { return false }
    if let window = mask.leftWindow, key < position - window { return false }
    if let chunk = mask.chunk {
      func number(_ value: Int) -> Int { Int((Double(value) / Double(chunk)).rounded(.down)) }
      if number(key) != number(position) { return false }
    }
    return true
  }

  @Test("Views into the 2M triangle equal brute force for every tile up to 33 × 33 and every δ")
  func triangle() throws {
    for m in 1...33 {
      for n in 1...33 {
        let side = m + n
        for delta in -(m + 2)...(n + 2) {
          // Rows 5… with an offset that gives δ at key 3.
          let mask = try TileMask(isCausal: true, offset: delta - 2)
          let verdict = mask.verdict(firstRow: 5, rows: m, firstKey: 3, keys: n)
          let wanted: TileMask.Verdict =
            delta >= n - 1 ? .all : delta <= -m ? .none : .some
          if verdict != wanted { Issue.record("\(m) × \(n), δ \(delta): \(verdict)") }
          let views = try #require(mask.views(firstRow: 5, rows: m, firstKey: 3, keys: n))
          if views.count != (verdict == .all ? 0 : 1) { Issue.record("\(m) × \(n), δ \(delta)") }
          for view in views {
            if view.firstRow + m > side || view.firstColumn + n > side
              || view.firstRow < 0 || view.firstColumn < 0
            {
              Issue.record("\(m) × \(n), δ \(delta): outside the triangle")
            }
            for i in 0..<m {
              for j in 0..<n
              where (view.firstColumn + j > view.firstRow + i) != (j > i + delta) {
                Issue.record("\(m) × \(n), δ \(delta): entry \(i), \(j)")
              }
            }
          }
        }
      }
    }
  }

  @Test("Two views make a window: tiles, rows and entries equal brute force, both alignments")
  func windows() throws {
    let lengths = [(1, 1), (7, 7), (20, 33), (33, 20), (16, 1), (1, 40)]
    for (queries, keys) in lengths {
      for alignment in TileMask.Alignment.allCases {
        for window in [nil, 0, 1, 5, 31, 32, 100] {
          for isCausal in [true, false] {
            let mask = try TileMask(
              isCausal: isCausal, offset: alignment.offset(queries: queries, keys: keys),
              leftWindow: window)
            for (m, n) in [(1, 1), (3, 5), (8, 4), (33, 40)] {
              for row in stride(from: 0, to: queries, by: m) {
                for key in stride(from: 0, to: keys, by: n) {
                  check(mask, row, min(m, queries - row), key, min(n, keys - key))
                }
              }
            }
          }
        }
      }
    }
  }

  private func check(_ mask: TileMask, _ row: Int, _ m: Int, _ key: Int, _ n: Int) {
    var visible = 0
    let views = mask.views(firstRow: row, rows: m, firstKey: key, keys: n)
    for i in 0..<m {
      for j in 0..<n {
        let wanted = isVisible(mask, row: row + i, key: key + j)
        visible += wanted ? 1 : 0
        if mask.isMasked(row: row + i, key: key + j) == wanted {
          Issue.record("\(mask): row \(row + i), key \(key + j)")
        }
        guard let views else { continue }
        let masked = views.contains { view in
          (view.firstColumn + j > view.firstRow + i) != view.isComplement
        }
        if masked == wanted { Issue.record("\(mask): view of row \(row + i), key \(key + j)") }
      }
    }
    let verdict = mask.verdict(firstRow: row, rows: m, firstKey: key, keys: n)
    let wanted: TileMask.Verdict = visible == 0 ? .none : visible == m * n ? .all : .some
    if verdict != wanted { Issue.record("\(mask): \(row)+\(m), \(key)+\(n) is \(verdict)") }
  }

  @Test("Chunks and prefixes: verdicts, visible ranges and entries equal brute force")
  func chunksAndPrefixes() throws {
    var random = RepeatableRandom(seed: 5)
    for _ in 0..<300 {
      let queries = Int.random(in: 1...30, using: &random)
      let keys = Int.random(in: 1...40, using: &random)
      let mask = try TileMask(
        isCausal: Bool.random(using: &random), offset: Int.random(in: -35...35, using: &random),
        leftWindow: Bool.random(using: &random) ? nil : Int.random(in: 0...20, using: &random),
        chunk: Bool.random(using: &random) ? nil : Int.random(in: 1...17, using: &random),
        prefix: Bool.random(using: &random) ? 0 : Int.random(in: 0...20, using: &random))
      let m = Int.random(in: 1...12, using: &random)
      let n = Int.random(in: 1...12, using: &random)
      for row in stride(from: 0, to: queries, by: m) {
        for key in stride(from: 0, to: keys, by: n) {
          check(mask, row, min(m, queries - row), key, min(n, keys - key))
        }
        let rows = row..<min(queries, row + m)
        let seen = (0..<keys).filter { key in
          rows.contains { isVisible(mask, row: $0, key: key) }
        }
        let range = mask.visibleKeys(firstRow: row, rows: rows.count, of: keys)
        #expect(range.isEmpty == seen.isEmpty)
        if let first = seen.first, let last = seen.last { #expect(range == first..<last + 1) }
      }
    }
  }

  @Test("Masks out of range are refused; empty tiles and far positions are nothing to trap on")
  func limits() throws {
    #expect(throws: QuantError.self) { try TileMask(leftWindow: -1) }
    #expect(throws: QuantError.self) { try TileMask(chunk: 0) }
    #expect(throws: QuantError.self) { try TileMask(prefix: -1) }
    #expect(throws: QuantError.self) { try TileMask(offset: .max) }
    #expect(throws: QuantError.self) { try TileMask(offset: .min) }
    let mask = try TileMask(isCausal: true, offset: TileMask.limit, leftWindow: 3)
    #expect(mask.verdict(firstRow: 0, rows: 0, firstKey: 0, keys: 4) == .none)
    #expect(mask.verdict(firstRow: 0, rows: 4, firstKey: 0, keys: -1) == .none)
    #expect(mask.visibleKeys(firstRow: 0, rows: 4, of: 100).isEmpty)
    _ = mask.verdict(firstRow: .max - 5, rows: .max, firstKey: .max, keys: .max)
    #expect(TileMask.none.verdict(firstRow: 0, rows: 9, firstKey: 0, keys: 9) == .all)
  }
}
