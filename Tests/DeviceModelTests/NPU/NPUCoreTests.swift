import DeviceModel
import TestSupport
import Testing

@Suite("A simulated NPU's core")
struct NPUCoreTests {
  private func global(
    _ name: String, _ count: Int, _ bytes: Int, use: NPURegion.Use = .streamed
  ) throws -> NPUGlobal {
    try NPUGlobal(
      NPURegion(name, use, distinctBytes: count * bytes), count: count, elementBytes: bytes,
      carriesValues: true)
  }

  private func half(_ value: Float) -> UInt16 { Float16(value).bitPattern }

  @Test("Every number of both Ascends has a source, and peaks are cores times cube times clock")
  func catalog() throws {
    #expect(NPUSpec.all.map(\.identifier) == ["ascend910a", "ascend910b2"])
    for spec in NPUSpec.all {
      try spec.check()
      for entry in spec.numbers {
        #expect(!entry.number.provenance.source.isEmpty, "\(spec.identifier) \(entry.label)")
        #expect(entry.number.value.isFinite && entry.number.value >= 0)
      }
      let peak = spec.cores.value * spec.cubeRate.value * 2 * spec.clock.value / 1e3
      #expect(abs(peak / spec.float16Peak.value - 1) < 0.001)
    }
    #expect(NPUSpec.ascend910a.bankRule == nil)
    #expect(try NPUSpec.named("ascend910b2") == .ascend910b2)
    #expect(throws: DeviceError.self) { try NPUSpec.named("ascend") }
    #expect(NPUSpec.ascend910b2.memoryRate.provenance.isUncertain)
    #expect(NPUSpec.ascend910b2.flagCycles.provenance.isUncertain)
  }

  @Test("Buffers refuse what does not fit, is misaligned, overlaps or is nothing")
  func buffers() throws {
    let core = try NPUCore(.ascend910b2, carriesValues: false)
    func code(_ body: () throws -> Void) -> DeviceError.Code? {
      #expect(throws: DeviceError.self) { try body() }?.code
    }
    #expect(code { _ = try core.allocate(.l0a, bytes: 64 * 1024 + 1, "a") } == .launch)
    _ = try core.allocate(.l0a, bytes: 64 * 1024, "a")
    #expect(code { _ = try core.allocate(.l0a, bytes: 1, "b") } == .launch)
    #expect(code { _ = try core.allocate(.l1, bytes: 0, "c") } == .invalidArgument)
    #expect(code { _ = try core.allocate(.l1, bytes: -1, "c") } == .invalidArgument)
    #expect(code { _ = try core.allocate(.l1, bytes: .max, "c") } == .launch)
    #expect(code { _ = try core.allocate(.l1, bytes: 32, at: 16, "c") } == .misaligned)
    _ = try core.allocate(.l1, bytes: 33, at: 64, "c")
    #expect(code { _ = try core.allocate(.l1, bytes: 32, at: 96, "d") } == .overlap)
    _ = try core.allocate(.l1, bytes: 32, at: 128, "d")
    // The cube has no unified buffer on a split part, the vector core no L1.
    #expect(code { _ = try core.allocate(.ub, unit: 0, bytes: 32, "e") } == .invalidArgument)
    #expect(code { _ = try core.allocate(.l1, unit: 1, bytes: 32, "e") } == .invalidArgument)
    #expect(code { _ = try core.allocate(.ub, unit: 3, bytes: 32, "e") } == .invalidArgument)
    #expect(core.peakBytes == [.l0a: 64 * 1024, .l1: 96])
    let coupled = try NPUCore(.ascend910a, carriesValues: false)
    _ = try coupled.allocate(.ub, unit: 0, bytes: 256 * 1024, "all")
  }

  @Test("Devices that cannot be are refused")
  func badDevices() {
    func refusal(_ change: (inout NPUSpec) -> Void) -> DeviceError? {
      var spec = NPUSpec.ascend910b2
      change(&spec)
      return #expect(throws: DeviceError.self) { _ = try NPUCore(spec, carriesValues: false) }
    }
    let nobody = Provenance.assumed("a test")
    #expect(refusal { $0.cores = Sourced(0, nobody) }?.code == .launch)
    #expect(refusal { $0.cores = Sourced(2.5, nobody) } != nil)
    #expect(refusal { $0.cores = Sourced(.nan, nobody) } != nil)
    #expect(refusal { $0.vectorUnits = Sourced(0, nobody) } != nil)
    #expect(refusal { $0.ubBytes = Sourced(0, nobody) } != nil)
    #expect(refusal { $0.l1Bytes = Sourced(-1, nobody) } != nil)
    #expect(refusal { $0.clock = Sourced(0, nobody) } != nil)
    #expect(refusal { $0.l2Read = Sourced(.infinity, nobody) } != nil)
    #expect(refusal { $0.flagCycles = Sourced(-1, nobody) } != nil)
  }

  @Test(
    "A product through all buffers equals the sum over k, for sizes around the fractals",
    arguments: [(1, 1, 1), (16, 16, 16), (17, 33, 15), (5, 48, 70), (64, 1, 31)])
  func product(m: Int, n: Int, k: Int) throws {
    var random = RepeatableRandom(seed: UInt64(m * 1000 + n))
    let a = (0..<m * k).map { _ in Float16(Float.random(in: -2..<2, using: &random)) }
    let b = (0..<n * k).map { _ in Float16(Float.random(in: -2..<2, using: &random)) }
    let core = try NPUCore(.ascend910b2, carriesValues: true)
    let left = try global("a", m * k, 2)
    let right = try global("b", n * k, 2)
    let output = try global("c", m * n, 4)
    left.fill(a)
    right.fill(b)
    let l1a = try core.allocate(.l1, bytes: 64 * 1024, "a")
    let l1b = try core.allocate(.l1, bytes: 64 * 1024, "b")
    let l0a = try core.allocate(.l0a, bytes: 64 * 1024, "a")
    let l0b = try core.allocate(.l0b, bytes: 64 * 1024, "b")
    let l0c = try core.allocate(.l0c, bytes: 64 * 1024, "c")
    try core.block([0]) { () throws(DeviceError) in
      try core.loadFractals(
        left, GlobalWindow(offset: 0, rows: m, rowPitch: k, columns: k), into: l1a)
      try core.loadFractals(
        right, GlobalWindow(offset: 0, rows: n, rowPitch: k, columns: k), into: l1b)
      // k in two parts, the second added to the first; a part starts at a whole fractal.
      let first = k > 16 ? 16 : k
      for (column, columns) in [(0, first), (first, k - first)] where columns > 0 {
        try core.loadOperand(
          l1a, matrixRows: m, column: column, rows: m, columns: columns, into: l0a)
        try core.loadOperand(
          l1b, matrixRows: n, column: column, rows: n, columns: columns, into: l0b)
        try core.multiply(l0a, l0b, into: l0c, m: m, n: n, k: columns, accumulating: column > 0)
      }
      try core.storeSums(
        l0c, to: output, GlobalWindow(offset: 0, rows: m, rowPitch: n, columns: n))
    }
    let found = output.contents(as: Float.self)
    for i in 0..<m {
      for j in 0..<n {
        // Products of halves are exact; sums are rounded once each, in order.
        var sum: Float = 0
        for x in 0..<k { sum += Float(a[i * k + x]) * Float(b[j * k + x]) }
        #expect(found[i * n + j] == sum, "\(i), \(j)")
      }
    }
    let blocks = { (extent: Int) in (extent + 15) / 16 }
    #expect(core.program.counters.cubeCycles == blocks(m) * blocks(n) * blocks(k))
    #expect(core.program.counters.bytes(.globalToL1) == (m + n) * k * 2)
    #expect(core.program.counters.bytes(.l0cToGlobal) == m * n * 4)
    #expect(core.program.counters.regionWrites == ["c": m * n * 4])
  }

  @Test("A transposed operand is the matrix's transpose")
  func transposed() throws {
    let (keys, width) = (37, 20)
    let core = try NPUCore(.ascend910b2, carriesValues: true)
    let values = try global("v", keys * width, 2)
    values.fill((0..<keys * width).map { half(Float($0 % 97)) })
    let identity = try global("i", 16 * keys, 2)
    identity.fill((0..<16 * keys).map { half($0 % keys == $0 / keys ? 1 : 0) })
    let output = try global("o", 16 * width, 4)
    let l1 = [
      try core.allocate(.l1, bytes: 8192, "v"), try core.allocate(.l1, bytes: 8192, "i"),
    ]
    let l0a = try core.allocate(.l0a, bytes: 8192, "i")
    let l0b = try core.allocate(.l0b, bytes: 8192, "v")
    let l0c = try core.allocate(.l0c, bytes: 8192, "o")
    try core.block([0]) { () throws(DeviceError) in
      try core.loadFractals(
        values, GlobalWindow(offset: 0, rows: keys, rowPitch: width, columns: width), into: l1[0])
      try core.loadFractals(
        identity, GlobalWindow(offset: 0, rows: 16, rowPitch: keys, columns: keys), into: l1[1])
      try core.loadOperand(l1[1], matrixRows: 16, rows: 16, columns: keys, into: l0a)
      try core.loadOperand(
        l1[0], matrixRows: keys, rows: keys, columns: width, transposed: true, into: l0b)
      try core.multiply(l0a, l0b, into: l0c, m: 16, n: width, k: keys, accumulating: false)
      try core.storeSums(
        l0c, to: output, GlobalWindow(offset: 0, rows: 16, rowPitch: width, columns: width))
    }
    #expect(
      output.contents(as: Float.self) == (0..<16 * width).map { Float($0 % 97) })
  }

  @Test("Vector operations compute what they say")
  func vectors() throws {
    let core = try NPUCore(.ascend910b2, carriesValues: true)
    let rows = 3
    let columns = 100
    let pitch = 104
    let inputs = (0..<rows * columns).map { Float(($0 * 37) % 211) / 16 - 6 }
    let source = try global("in", rows * columns, 4)
    source.fill(inputs)
    let output = try global("out", rows * columns, 4)
    let maxima = try global("maxima", 8, 4)
    let tiles = try (0..<6).map { try core.allocate(.ub, unit: 1, bytes: 4096, "t\($0)") }
    let window = GlobalWindow(offset: 0, rows: rows, rowPitch: columns, columns: columns)
    func matrix(_ index: Int) -> UBMatrix {
      UBMatrix(tiles[index], rows: rows, columns: columns, pitch: pitch)
    }
    let reduced = UBMatrix.vector(tiles[3], count: rows)
    let spread = UBMatrix(tiles[4], rows: rows, columns: 8)
    // p = e^(x − max), written back; maxima beside it.
    try core.block([0]) { () throws(DeviceError) in
      try core.loadRows(source, window, into: matrix(0))
      try core.reduceRows(
        sum: false, matrix(0), scratch: UBMatrix(tiles[5], rows: rows, columns: 64), into: reduced)
      try core.broadcast(reduced, into: spread)
      try core.apply(.subtract, matrix(0), .perRow(spread), into: matrix(1))
      try core.apply(.exponential, matrix(1), into: matrix(2))
      try core.storeRows(matrix(2), to: output, window)
      try core.storeRows(
        reduced, to: maxima, GlobalWindow(offset: 0, rows: 1, rowPitch: 0, columns: rows))
    }
    let found = output.contents(as: Float.self)
    for row in 0..<rows {
      let values = inputs[row * columns..<(row + 1) * columns]
      let largest = values.max() ?? 0
      #expect(maxima.contents(as: Float.self)[row] == largest)
      for (column, value) in values.enumerated() {
        let wanted = exponential(Double(value - largest))
        #expect(abs(Double(found[row * columns + column]) - wanted) <= wanted * 0x1p-23)
      }
    }
    // Three rows of 100: two repeats a row for an operation with a gap between rows; the fold takes
    // one a row and the reduction another, the broadcast one for eight values.
    #expect(core.program.counters.vectorRepeats == 3 + 3 + 1 + 6 + 6)
    #expect(core.program.counters.vectorInstructions == 5)
  }

  @Test("Exponentials, logarithms and powers of two against float64, limits included")
  func functions() throws {
    let inputs: [Float] =
      [0, -0.0, 1, -1, 0.5, 88.7, 89, -87, -104, -200, .infinity, -.infinity, 1e-30, 3e38]
      + (0..<242).map { Float($0) * 0.37 - 50 }
    let core = try NPUCore(.ascend910a, carriesValues: true)
    let source = try global("in", inputs.count, 4)
    source.fill(inputs)
    let tile = try core.allocate(.ub, bytes: inputs.count * 4, "in")
    let result = try core.allocate(.ub, bytes: inputs.count * 4, "out")
    let matrix = UBMatrix.vector(tile, count: inputs.count)
    let output = UBMatrix.vector(result, count: inputs.count)
    func apply(_ operation: VectorOperation) throws -> [Float] {
      try core.block([Int(operation.rawValue)]) { () throws(DeviceError) in
        try core.loadRows(
          source, GlobalWindow(offset: 0, rows: 1, rowPitch: 0, columns: inputs.count), into: matrix
        )
        try core.apply(operation, matrix, into: output)
      }
      return core.peek(output)
    }
    for (x, found) in zip(inputs, try apply(.exponential)) {
      let wanted = exponential(Double(x))
      // Beyond the normal numbers an absolute error of half the least one.
      #expect(
        Double(found) == wanted || abs(Double(found) - wanted) <= wanted * 0x1p-23 + 0x1p-149
          || (wanted > 3.4028235e38 && found == .infinity), "\(x)")
    }
    for (x, found) in zip(inputs, try apply(.logarithm)) {
      if x == 0 { #expect(found == -.infinity) }
      if x < 0 { #expect(found.isNaN) }
      if x > 0, x.isFinite {
        #expect(abs(exponential(Double(found)) / Double(x) - 1) < 1e-5, "\(x)")
      }
    }
    for (x, found) in zip(inputs, try apply(.ceiling)) { #expect(found == x.rounded(.up)) }
    for (x, found) in zip(inputs, try apply(.zeroInfinity)) {
      #expect(found == (x == -.infinity ? 0 : x))
    }
    for (x, found) in zip(inputs, try apply(.oneZero)) { #expect(found == (x == 0 ? 1 : x)) }
  }

  @Test("Adding to the exponent is multiplying by a power of two")
  func exponents() throws {
    let values: [Float] = [1, -1.5, 0, 3e38, 1e-38, 1e-30, 2.5, 7]
    let shifts: [Float] = [0, -3, -5, 4, -20, -20, -.infinity, -130]
    let core = try NPUCore(.ascend910a, carriesValues: true)
    let source = try global("in", 16, 4)
    source.fill(values + shifts)
    let tile = try core.allocate(.ub, bytes: 64, "in")
    let a = UBMatrix.vector(tile, count: 8)
    let b = UBMatrix.vector(tile, first: 8, count: 8)
    try core.block([0]) { () throws(DeviceError) in
      try core.loadRows(
        source, GlobalWindow(offset: 0, rows: 1, rowPitch: 0, columns: 16),
        into: .vector(tile, count: 16))
      try core.apply(.addExponent, a, .matrix(b), into: a)
    }
    let found = core.peek(a)
    #expect(found[0] == 1 && found[1] == -1.5 / 8 && found[2] == 0)
    #expect(found[3] == .infinity && found[4] == 0 && found[6] == 0 && found[7] == 0)
    #expect(found[5] == Float(1e-30) / 1_048_576)
  }

  @Test("Copies, products and windows outside their memory are refused")
  func outside() throws {
    let core = try NPUCore(.ascend910b2, carriesValues: true)
    let array = try global("array", 100, 2)
    let tile = try core.allocate(.l1, bytes: 512, "small")
    let operand = try core.allocate(.l0a, bytes: 512, "operand")
    let vector = try core.allocate(.ub, unit: 1, bytes: 256, "vector")
    func refused(
      _ number: Int, _ body: () throws(DeviceError) -> Void
    ) -> DeviceError.Code? {
      #expect(throws: DeviceError.self) { try core.block([number], body) }?.code
    }
    for (number, window) in [
      GlobalWindow(offset: 0, rows: 11, rowPitch: 10, columns: 10),
      GlobalWindow(offset: -1, rows: 1, rowPitch: 10, columns: 10),
      GlobalWindow(offset: 0, rows: 0, rowPitch: 10, columns: 10),
      GlobalWindow(offset: 0, rows: 3, rowPitch: .max, columns: 10),
      GlobalWindow(offset: .max, rows: 1, rowPitch: 1, columns: 10),
    ].enumerated() {
      #expect(
        refused(number) { () throws(DeviceError) in
          try core.loadFractals(array, window, into: tile)
        } == .outOfRange)
    }
    let small = GlobalWindow(offset: 0, rows: 5, rowPitch: 20, columns: 17)
    #expect(
      refused(10) { () throws(DeviceError) in try core.loadFractals(array, small, into: tile) }
        == .outOfRange)
    #expect(
      refused(11) { () throws(DeviceError) in
        try core.loadFractals(
          array, GlobalWindow(offset: 0, rows: 1, rowPitch: 1, columns: 1), into: operand)
      } == .invalidArgument)
    #expect(
      refused(12) { () throws(DeviceError) in
        try core.loadOperand(tile, matrixRows: 16, row: 8, rows: 8, columns: 16, into: operand)
      } == .invalidArgument)
    #expect(
      refused(13) { () throws(DeviceError) in
        try core.loadRows(
          array, GlobalWindow(offset: 0, rows: 2, rowPitch: 10, columns: 10),
          into: UBMatrix(vector, rows: 2, columns: 10, elementBytes: 2))
      } == .misaligned)
    #expect(
      refused(14) { () throws(DeviceError) in
        try core.apply(
          .add, .vector(vector, count: 64), .matrix(.vector(vector, first: 8, count: 64)),
          into: .vector(vector, count: 64))
      } == .outOfRange)
    // Paths that the part does not have.
    #expect(
      refused(15) { () throws(DeviceError) in
        try core.sumsToVector(
          operand, matrixRows: 1, row: 0, rows: 1, columns: 1,
          into: .vector(vector, count: 1))
      } == .launch)
    #expect(throws: DeviceError.self) { try core.setFlag(0, unit: 0, pipe: .load) }
    #expect(throws: DeviceError.self) {
      _ = try NPUGlobal(
        NPURegion("x", .streamed, distinctBytes: 0), count: .max, elementBytes: 4,
        carriesValues: false)
    }
  }

  @Test("A key that stands for two different blocks is found by the run with values")
  func keys() throws {
    let core = try NPUCore(.ascend910a, carriesValues: true)
    let tile = try core.allocate(.ub, bytes: 1024, "t")
    try core.block([1]) { () throws(DeviceError) in
      try core.fill(.vector(tile, count: 64), 1)
    }
    #expect(throws: DeviceError.self) {
      try core.block([1]) { () throws(DeviceError) in
        try core.fill(.vector(tile, count: 128), 1)
      }
    }
  }
  @Test("A block noted so often counts so often; with values each is issued for itself")
  func repeatedBlocks() throws {
    let counting = try NPUCore(.ascend910a, carriesValues: false)
    let tile = try counting.allocate(.ub, bytes: 1024, "t")
    for times in [3, 1, 5] {
      try counting.block([1], times: times) { () throws(DeviceError) in
        try counting.fill(.vector(tile, count: 64), 1)
      }
    }
    #expect(counting.program.counters.vectorRepeats == 9)
    #expect(counting.program.operationCount == 9)
    #expect(throws: DeviceError.self) { try counting.block([1], times: 0) {} }
    let core = try NPUCore(.ascend910a, carriesValues: true)
    #expect(throws: DeviceError.self) { try core.block([1], times: 2) {} }
  }
}
