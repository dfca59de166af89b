import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// Each layout of the package on shapes small enough to look at every weight.
struct NamedLayout: Sendable, CustomTestStringConvertible {
  let name: String
  let layout: InterleavedLayout
  var testDescription: String { name }

  init(_ name: String, _ layout: InterleavedLayout) {
    self.name = name
    self.layout = layout
  }

  static func all() throws -> [NamedLayout] {
    var list: [NamedLayout] = []
    for (n, k) in [(128, 32), (256, 64), (384, 96), (640, 32), (8, 32), (100, 40)] {
      list.append(.init("quick \(n)×\(k)", try .quick(rows: n, columns: k, padding: .padded)))
      list.append(.init("marlin \(n)×\(k)", try .marlin(rows: n, columns: k, padded: true)))
    }
    for (n, k) in [(8, 3), (128, 32), (40, 8)] {
      list.append(.init("awq \(n)×\(k)", try .awq(rows: n, columns: k)))
      list.append(.init("gptq zeros \(n)×\(k)", try .gptqZeroPoints(rows: n, groups: k)))
    }
    for (n, k) in [(3, 8), (128, 32), (5, 64)] {
      list.append(.init("gptq \(n)×\(k)", try .gptq(rows: n, columns: k)))
    }
    let fragments: [Fragment] = [.vpdpbusd512, .vpdpbusd256, .maddubs256, .sdot, .smmla]
    for fragment in fragments {
      for bits in [4, 8] {
        for (n, k, group, trailer) in [
          (16, 32, 32, 0), (32, 128, 64, 32), (37, 96, 32, 64), (5, 48, 48, 12), (1, 8, 8, 0),
        ] {
          list.append(
            .init(
              "panel \(fragment.name) u\(bits) \(n)×\(k) group \(group) trailer \(trailer)",
              try .panels(
                rows: n, columns: k, fragment: fragment, elementBits: bits, groupSize: group,
                blockTrailerBytes: trailer)))
        }
      }
    }
    for groups in [1, 3] {
      list.append(.init("quick zeros", try .quickZeroPoints(rows: 256, groups: groups)))
    }
    // Other instructions by the bare generator: Volta's quad-pairs side by side, the cube's
    // fractals.
    list.append(
      .init(
        "volta 64×16",
        try InterleavedLayout(
          rows: 64, columns: 16, fragment: .voltaBColumnMajor, elementBits: 4,
          order: [
            .element(4), .inputTile(2), .lane(32), .outputRest(above: 1), .inputRest(above: 2),
          ])))
    list.append(
      .init(
        "cube nZ 40×50",
        try InterleavedLayout(
          rows: 40, columns: 50, fragment: .cubeByteB, elementBits: 8,
          order: [.element(512), .outputRest(above: 1), .inputRest(above: 1)])))
    list.append(
      .init(
        "weights as operand A 32×64",
        try InterleavedLayout(
          rows: 32, columns: 64, fragment: .mmaM16N8K32A, elementBits: 4,
          order: [
            .element(16), .lane(32), .inputRest(above: 1), .outputRest(above: 1),
          ])))
    return list
  }
}

@Suite struct InterleavedLayoutTests {
  @Test(arguments: try NamedLayout.all())
  func isBijection(_ named: NamedLayout) throws {
    let layout = named.layout
    var seen = [Bool](repeating: false, count: layout.byteCount * 8 / layout.elementBits + 1)
    let rows = layout.rowOffsets()
    let columns = layout.columnOffsets()
    let tile = layout.tile()
    #expect(rows.count == layout.paddedRows && columns.count == layout.paddedColumns)
    #expect(layout.paddedRows >= layout.rows && layout.paddedColumns >= layout.columns)
    var wrong = 0
    for n in 0..<layout.paddedRows {
      for k in 0..<layout.paddedColumns {
        let bit = layout.bitOffset(row: n, column: k)
        let patch =
          tile.bitOffsets[n % tile.rows * tile.columns + k % tile.columns]
          + n / tile.rows * tile.rowStride + k / tile.columns * tile.columnStride
        if rows[n] + columns[k] != bit || patch != bit { wrong += 1 }
        for copy in layout.copyOffsets {
          let place = bit + copy
          guard place >= 0, place % layout.elementBits == 0,
            place + layout.elementBits <= layout.byteCount * 8,
            !seen[place / layout.elementBits]
          else {
            wrong += 1
            continue
          }
          seen[place / layout.elementBits] = true
        }
        if let gap = layout.gapOffset(row: n, column: k), gap < bit / 8 { wrong += 1 }
      }
    }
    #expect(wrong == 0)
    if layout.gapOffset(row: 0, column: 0) == nil {
      #expect(
        layout.byteCount * 8 == layout.paddedRows * layout.paddedColumns * layout.elementBits
          * layout.copyOffsets.count)
    }
  }

  @Test(arguments: try NamedLayout.all())
  func unpackUndoesPack(_ named: NamedLayout) throws {
    let layout = named.layout
    var random = RepeatableRandom(seed: 7)
    let limit = UInt8((1 << layout.elementBits) - 1)
    let codes = (0..<layout.rows * layout.columns).map { _ in
      UInt8.random(in: 0...limit, using: &random)
    }
    let bytes = try layout.pack(codes, padding: limit)
    #expect(bytes.count == layout.byteCount)
    #expect(try layout.unpack(bytes) == codes)
  }

  @Test func printsShapeAndStride() throws {
    #expect(
      try InterleavedLayout.gptq(rows: 16, columns: 16).description == "(16,(8,2)):(8,(1,128))")
    #expect(
      try InterleavedLayout.awq(rows: 16, columns: 3).description == "((2,4,2),3):((4,1,8),16)")
    #expect(
      try InterleavedLayout.quick(rows: 128, columns: 32).description
        == "((8,2,4,2),(2,4,2,2)):((256,2,8,2048),(4,64,1,32))")
    #expect(
      try InterleavedLayout.panels(
        rows: 15, columns: 32, fragment: .vpdpbusd512, elementBits: 4, groupSize: 32
      ).description == "(16,(4,2,4)):(8,(2,1,128)) of (15,32)")
  }

  /// What is printed is the map: evaluating shape:stride gives every offset.
  @Test(arguments: try NamedLayout.all())
  func printedStridesAreTheMap(_ named: NamedLayout) throws {
    let layout = named.layout
    let text = layout.description.split(separator: " ")[0]
    let sides = text.split(separator: ":")
    /// `((a,b),c)` or `(a,(b,c))` into its two lists.
    func lists(_ side: Substring) -> [[Int]] {
      var lists: [[Int]] = []
      var depth = 0
      for part in side.dropFirst().dropLast().split(separator: ",") {
        if depth == 0 { lists.append([]) }
        depth += part.filter { $0 == "(" }.count - part.filter { $0 == ")" }.count
        lists[lists.count - 1].append(Int(part.filter { $0.isNumber }) ?? -1)
      }
      return lists
    }
    let (extents, strides) = (lists(sides[0]), lists(sides[1]))
    func offset(_ index: Int, _ axis: Int) -> Int {
      var rest = index
      var sum = 0
      for (extent, stride) in zip(extents[axis], strides[axis]) {
        sum += rest % extent * stride
        rest /= extent
      }
      return sum * layout.elementBits
    }
    #expect(extents.map { $0.reduce(1, *) } == [layout.paddedRows, layout.paddedColumns])
    var wrong = 0
    for n in 0..<layout.paddedRows {
      for k in 0..<layout.paddedColumns
      where offset(n, 0) + offset(k, 1) != layout.bitOffset(row: n, column: k) { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  @Test func refusesOrdersThatAreNoBijection() {
    let orders: [[StorageStep]] = [
      [],
      [.outputRest(above: 1)],
      [.outputRest(above: 1), .inputRest(above: 1)],  // no element
      [.element(4), .lane(16), .outputRest(above: 2), .inputRest(above: 1)],  // a hole
      [.element(4), .lane(16), .outputTile(2), .outputRest(above: 1), .inputRest(above: 1)],
      [.element(2), .lane(16), .outputRest(above: 1), .inputRest(above: 1)],
      [.element(4), .element(4), .lane(16), .outputRest(above: 1), .inputRest(above: 1)],
      [.element(4), .lane(16), .outputRest(above: 1), .inputRest(above: 1), .inputRest(above: 1)],
      [.element(4), .lane(16), .copies(0), .outputRest(above: 1), .inputRest(above: 1)],
      [.element(4), .lane(16), .gap(bits: -8), .outputRest(above: 1), .inputRest(above: 1)],
      [.element(4), .lane(16), .outputRest(above: 0), .inputRest(above: 1)],
      [.element(4), .lane(16), .outputTile(-2), .outputRest(above: -2), .inputRest(above: 1)],
    ]
    for order in orders {
      #expect(throws: QuantError.self) {
        try InterleavedLayout(
          rows: 16, columns: 4, fragment: .vpdpbusd512, elementBits: 4, order: order)
      }
    }
    let good: [StorageStep] = [
      .element(4), .lane(16), .outputRest(above: 1), .inputRest(above: 1),
    ]
    for (rows, columns) in [
      (0, 4), (16, 0), (-1, 4), (Int.max, 4), (16, Int.max), (1 << 40, 1 << 40),
    ] {
      #expect(throws: QuantError.self) {
        try InterleavedLayout(
          rows: rows, columns: columns, fragment: .vpdpbusd512, elementBits: 4, order: good)
      }
    }
    #expect(throws: QuantError.self) {
      try InterleavedLayout(
        rows: 16, columns: 16, fragment: .mmaM16N8K16C, elementBits: 4,
        order: [.element(4), .lane(32), .outputRest(above: 1), .inputRest(above: 1)])
    }
  }

  @Test func refusesWrongBuffersAndCodes() throws {
    let layout = try InterleavedLayout.awq(rows: 8, columns: 2)
    #expect(throws: QuantError.self) { try layout.pack([UInt8](repeating: 0, count: 15)) }
    #expect(throws: QuantError.self) { try layout.unpack([UInt8](repeating: 0, count: 7)) }
    #expect(throws: QuantError.self) { try layout.pack(halves: [UInt16](repeating: 0, count: 16)) }
    #expect(throws: QuantError.self) {
      try layout.pack([UInt8](repeating: 0, count: 16), padding: 16)
    }
    var codes = [UInt8](repeating: 3, count: 16)
    codes[11] = 16
    let error = #expect(throws: QuantError.self) { try layout.pack(codes) }
    #expect(error?.problem == "code 16 at row 5, column 1")
    #expect(error?.code == .invalidData)
    let scales = try InterleavedLayout.quickScales(rows: 128, groups: 1)
    #expect(throws: QuantError.self) { try scales.pack([UInt8](repeating: 0, count: 128)) }
    #expect(throws: QuantError.self) { try scales.unpack([UInt8](repeating: 0, count: 512)) }
    #expect(throws: QuantError.self) { try scales.unpack(halves: [1, 2]) }
  }

  @Test func strangeIndicesDoNotTrap() throws {
    let layout = try InterleavedLayout.quick(rows: 128, columns: 32)
    _ = layout.bitOffset(row: -1, column: .max)
    _ = layout.bitOffset(row: .min, column: .min)
    _ = layout.gapOffset(row: -1, column: -1)
  }
}
