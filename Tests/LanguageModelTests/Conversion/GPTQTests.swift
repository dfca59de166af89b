import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

/// GPTQ: its factor, its codes beside the textbook's, and a calibrated model.
@Suite struct GPTQTests {
  /// Σ x xᵀ of inputs of very different sizes that depend on one another.
  private static func sums(_ columns: Int, rows: Int, seed: UInt64) -> [Double] {
    var random = RepeatableRandom(seed: seed)
    let mixing = random.normals(columns * columns)
    let sizes = (0..<columns).map { 0.1 + Double(($0 * 7) % columns) / Double(columns) }
    var sums = [Double](repeating: 0, count: columns * columns)
    for _ in 0..<rows {
      let source = random.normals(columns)
      let x = (0..<columns).map { column in
        sizes[column]
          * (Double(source[column])
            + 0.3
            * (0..<columns).reduce(0.0) { $0 + Double(mixing[column * columns + $1] * source[$1]) }
            / Double(columns).squareRoot())
      }
      for i in 0..<columns { for j in 0..<columns { sums[i * columns + j] += x[i] * x[j] } }
    }
    return sums
  }

  /// H⁻¹ by Gauss and Jordan, in float64.
  private static func inverse(_ matrix: [Double], _ n: Int) -> [Double] {
    var a = matrix
    var b = (0..<n * n).map { $0 / n == $0 % n ? 1.0 : 0 }
    for pivot in 0..<n {
      let best = (pivot..<n).max { abs(a[$0 * n + pivot]) < abs(a[$1 * n + pivot]) } ?? pivot
      for j in 0..<n {
        a.swapAt(pivot * n + j, best * n + j)
        b.swapAt(pivot * n + j, best * n + j)
      }
      let scale = 1 / a[pivot * n + pivot]
      for j in 0..<n {
        a[pivot * n + j] *= scale
        b[pivot * n + j] *= scale
      }
      for i in 0..<n where i != pivot {
        let factor = a[i * n + pivot]
        for j in 0..<n {
          a[i * n + j] -= factor * a[pivot * n + j]
          b[i * n + j] -= factor * b[pivot * n + j]
        }
      }
    }
    return b
  }

  /// The damped Hessian in the factor's order.
  private static func damped(_ sums: [Double], _ factor: GPTQFactor) -> [Double] {
    let n = factor.order.count
    let mean = (0..<n).reduce(0) { $0 + sums[$1 * n + $1] } / Double(n)
    return (0..<n * n).map { index in
      let (i, j) = (Int(factor.order[index / n]), Int(factor.order[index % n]))
      let own = i == j ? mean * (factor.damping + (factor.isDead[i] ? 1 : 0)) : 0
      return sums[i * n + j] + own
    }
  }

  @Test(arguments: [1, 2, 7, 33, 96])
  func factorIsTheInversesTriangle(columns: Int) throws {
    let sums = Self.sums(columns, rows: 3 * columns, seed: UInt64(columns))
    for actOrder in [false, true] {
      let factor = try GPTQFactor(sums: sums, columns: columns, actOrder: actOrder)
      let diagonal = factor.order.map { sums[Int($0) * columns + Int($0)] }
      #expect(actOrder ? diagonal == diagonal.sorted(by: >) : factor.order == factor.order.sorted())
      #expect(factor.order.sorted() == (0..<Int32(columns)).map { $0 })
      let expected = Self.inverse(Self.damped(sums, factor), columns)
      let u = factor.upper.map(Double.init)
      let largest = expected.reduce(0) { max($0, abs($1)) }
      for i in 0..<columns {
        for j in 0..<columns {
          if j < i { #expect(u[i * columns + j] == 0) }
          let found = (0...min(i, j)).reduce(0.0) { $0 + u[$1 * columns + i] * u[$1 * columns + j] }
          #expect(abs(found - expected[i * columns + j]) < 1e-5 * largest)
        }
      }
    }
  }

  @Test func hopelessSums() throws {
    #expect(throws: QuantError.self) {
      try GPTQFactor(sums: [.nan, 0, 0, 1], columns: 2, actOrder: true)
    }
    // No sums of products: off the diagonal far more than on it.
    #expect(throws: QuantError.self) {
      try GPTQFactor(sums: [1, 1e9, 1e9, 1], columns: 2, actOrder: true)
    }
    // One direction only: damping makes it definite.
    let flat = try GPTQFactor(
      sums: [Double](repeating: 4, count: 16), columns: 4, actOrder: true)
    #expect(flat.upper.allSatisfy { $0.isFinite })
    // An input that was never there, and none at all.
    let dead = try GPTQFactor(sums: [0, 0, 0, 4], columns: 2, actOrder: true)
    #expect(dead.order == [1, 0] && dead.isDead == [true, false])
    let none = try GPTQFactor(sums: [0, 0, 0, 0], columns: 2, actOrder: true)
    #expect(none.upper.allSatisfy { $0.isFinite })
  }

  /// The textbook: quantize a column, divide its error by the inverse's first element, hand it on,
  /// drop the column and invert what is left anew.
  @Test(arguments: [false, true])
  func codesAreTheTextbooks(actOrder: Bool) throws {
    let (rows, columns, group) = (6, 64, 32)
    let sums = Self.sums(columns, rows: 150, seed: 3)
    var random = RepeatableRandom(seed: 4)
    let values = random.normals(rows * columns)
    let factor = try GPTQFactor(sums: sums, columns: columns, actOrder: actOrder)
    let matrix = try GPTQQuantizer(
      factor: factor, groupSize: group, symmetric: false, pool: WorkerPool(threads: 2)
    ).quantize(values, rows: rows, columns: columns)
    #expect(matrix.inputPermutation == (actOrder ? factor.order : nil))
    let hessian = Self.damped(sums, factor)
    // The inverse of what is left from each column on.
    let inverses = (0..<columns).map { first -> [Double] in
      let n = columns - first
      return Self.inverse(
        (0..<n * n).map { hessian[(first + $0 / n) * columns + first + $0 % n] }, n)
    }
    for row in 0..<rows {
      var left = factor.order.map { Double(values[row * columns + Int($0)]) }
      for column in 0..<columns {
        let at = row * matrix.groups + column / group
        let scale = Double(matrix.scales[at])
        guard case .zeroPoints(let zeros) = matrix.offsets else { return #expect(Bool(false)) }
        let zero = Double(zeros[at])
        let place = left[column] / scale + zero
        let code = Double(matrix.codes[row * columns + column])
        // Ours is the nearest code, but for float32's rounding of the place.
        #expect(abs(min(max(place, 0), 15) - code) <= 0.5 + 1e-3, "row \(row), column \(column)")
        let inverse = inverses[column]
        let error = (left[column] - scale * (code - zero)) / inverse[0]
        for later in column..<columns { left[later] -= error * inverse[later - column] }
      }
    }
  }

  /// Less error over the inputs than rounding to nearest, and as the sums say.
  @Test func errorsAreMadeUpFor() throws {
    let (rows, columns, group) = (24, 96, 32)
    let sums = Self.sums(columns, rows: 400, seed: 5)
    var random = RepeatableRandom(seed: 6)
    let values = random.normals(rows * columns)
    let pool = WorkerPool(threads: 2)
    func error(_ matrix: Int4Matrix) throws -> Double {
      try GPTQQuantizer.outputError(of: matrix, from: values, sums: sums, pool: pool).error
    }
    let rounded = try Int4Matrix(
      quantizing: values, rows: rows, columns: columns, groupSize: group)
    for symmetric in [false, true] {
      for actOrder in [false, true] {
        let factor = try GPTQFactor(sums: sums, columns: columns, actOrder: actOrder)
        let matrix = try GPTQQuantizer(
          factor: factor, groupSize: group, symmetric: symmetric, pool: pool
        ).quantize(values, rows: rows, columns: columns)
        if !symmetric { #expect(try error(matrix) < 0.8 * error(rounded)) }
        // d H dᵀ in float64.
        var expected = 0.0
        for row in 0..<rows {
          var d = (0..<columns).map { Double(values[row * columns + $0]) }
          for column in 0..<columns {
            let input = matrix.inputPermutation.map { Int($0[column]) } ?? column
            d[input] -= Double(matrix[row, column])
          }
          for i in 0..<columns {
            for j in 0..<columns { expected += d[i] * sums[i * columns + j] * d[j] }
          }
        }
        #expect(abs(try error(matrix) / expected - 1) < 1e-3)
      }
    }
  }

  @Test func hessiansAreSumsOfProducts() throws {
    let (columns, rows) = (40, 1111)
    var random = RepeatableRandom(seed: 7)
    let x = random.normals(rows * columns)
    let hessian = CalibrationHessian(columns: columns, pool: WorkerPool(threads: 2))
    for first in stride(from: 0, to: rows, by: 300) {
      let part = Array(x[first * columns..<min(first + 300, rows) * columns])
      try part.withUnsafeBufferPointer {
        try hessian.add(#require($0.baseAddress), count: part.count / columns)
      }
    }
    try hessian.flush()
    #expect(hessian.rows == rows)
    for i in 0..<columns {
      for j in 0..<columns {
        let expected = (0..<rows).reduce(0.0) {
          $0 + Double(x[$1 * columns + i]) * Double(x[$1 * columns + j])
        }
        #expect(abs(hessian.sums[i * columns + j] - expected) < 1e-3 * Double(rows).squareRoot())
      }
    }
    let bad = [Float](repeating: .nan, count: columns)
    #expect(throws: QuantError.self) {
      try bad.withUnsafeBufferPointer { try hessian.add(#require($0.baseAddress), count: 1) }
    }
  }

  private static let text = Array(
    String(repeating: "The river runs to the sea, and the sea returns it as rain. 0123 ", count: 40)
      .utf8)

  @Test("A calibrated model: g_idx of falling diagonals, one for layers of one input, less error")
  func calibratedModel() throws {
    let bench = try Workbench(.llama, type: .f32) { $0.layerCount = 2 }
    var options = ModelConverter.Options()
    options.calibrationText = Self.text
    options.actOrder = true
    options.calibrationTokens = 1500
    let summary = try bench.convert(
      bench.source, to: .safetensors(.gptq), "out.safetensors", options)
    let calibration = try #require(summary.calibration)
    #expect(calibration.layers.count == 14 && calibration.tokens >= 1000)
    #expect(calibration.layers.allSatisfy { $0.error < $0.roundingError })
    #expect(calibration.error < 0.8 * calibration.roundingError)
    let model = try bench.safetensors("out.safetensors")
    #expect(model.files[0].metadata["desc_act"] == "true")
    let second = model.files[0].metadata["checkpoint_format"] == "gptq_v2"
    func layer(_ name: String) throws -> Int4Matrix {
      try bench.layer("out.safetensors", name, second ? .gptqV2 : .gptq)
    }
    for block in 0..<2 {
      func order(_ name: String) throws -> [Int32]? {
        try layer("model.layers.\(block).\(name)").inputPermutation
      }
      let query = try order("self_attn.q_proj")
      #expect(query != nil)
      #expect(try order("self_attn.k_proj") == query && order("self_attn.v_proj") == query)
      let gate = try order("mlp.gate_proj")
      #expect(try gate != nil && order("mlp.up_proj") == gate && order("mlp.down_proj") != nil)
    }
    // Without act-order the same, in the inputs' own order.
    options.actOrder = false
    let plain = try bench.convert(
      bench.source, to: .safetensors(.gptq), "plain.safetensors", options)
    #expect(try #require(plain.calibration).error < calibration.roundingError)
    #expect(
      try bench.layer(
        "plain.safetensors", "model.layers.0.mlp.down_proj",
        bench.safetensors("plain.safetensors").files[0].metadata["checkpoint_format"] == "gptq_v2"
          ? .gptqV2 : .gptq
      ).inputPermutation == nil)
  }

  /// The TP-aware pass on a file: the same layer, marked, once; a repack keeps the mark.
  @Test(arguments: [true, false])
  func orderOfAFileMovesOnce(hasBiases: Bool) throws {
    let bench = try Workbench(.llama, type: .f32) { $0.hasBiases = hasBiases }
    var options = ModelConverter.Options()
    options.calibrationText = Self.text
    options.actOrder = true
    options.calibrationTokens = 800
    try bench.convert(bench.source, to: .safetensors(.gptq), "a.safetensors", options)
    var moving = ModelConverter.Options()
    moving.movesInputOrder = true
    let from = bench.folder.file("a.safetensors")
    let summary = try bench.convert(from, to: .safetensors(.gptq), "b.safetensors", moving)
    #expect(summary.movedBlocks == 1)
    let model = try bench.safetensors("b.safetensors")
    let key = "tp_aware.model.layers.0.mlp"
    let format: Int4Tensors.Format =
      model.files[0].metadata["checkpoint_format"] == "gptq_v2" ? .gptqV2 : .gptq
    func layer(_ file: String, _ name: String) throws -> Int4Matrix {
      try bench.layer(file, "model.layers.0.mlp.\(name)", format)
    }
    let order = try #require(try layer("a.safetensors", "down_proj").inputPermutation)
    #expect(try layer("b.safetensors", "down_proj").inputPermutation == nil)
    for name in ["gate_proj", "up_proj"] {
      #expect(
        try layer("b.safetensors", name) == layer("a.safetensors", name).permutingRows(order))
      guard hasBiases else { continue }
      let bias = "model.layers.0.mlp.\(name).bias"
      func values(_ file: String) throws -> [[UInt8]] {
        let model = try bench.safetensors(file)
        let bytes = Array(model.bytes(of: try #require(model.tensor(named: bias))))
        return stride(from: 0, to: bytes.count, by: 2).map { Array(bytes[$0..<$0 + 2]) }
      }
      let before = try values("a.safetensors")
      #expect(try values("b.safetensors") == order.map { before[Int($0)] })
    }
    let mark = try #require(model.files[0].metadata[key])
    #expect(UInt64(mark, radix: 16) == (try Permutation(order)).checksum)
    // A second pass is refused, also after a repack.
    let moved = bench.folder.file("b.safetensors")
    try bench.convert(moved, to: .safetensors(.gptq), "c.safetensors")
    for path in [moved, bench.folder.file("c.safetensors")] {
      let error = #expect(throws: QuantError.self) {
        try bench.convert(path, to: .safetensors(.gptq), "d.safetensors", moving)
      }
      #expect(error?.problem.contains("already") == true)
    }
    // A file without int4 layers has nothing to move.
    let error = #expect(throws: QuantError.self) {
      try bench.convert(bench.source, to: .safetensors(.gptq), "d.safetensors", moving)
    }
    #expect(error?.code == .unsupported)
    // Both files are the same model, on one rank and on two.
    func logits(_ name: String, parts: Int) throws -> [Float] {
      var options = LanguageModel.Options()
      options.threads = 1
      options.arithmetic = .exact
      options.contextLength = 16
      options.int4Layers = bench.folder.file(name)
      options.reductionParts = parts
      let session = try LanguageModel(path: bench.source, options: options).makeSession()
      try session.forward([5, 6, 7])
      return Array(session.logits)
    }
    let plain = try logits("a.safetensors", parts: 1)
    let other = try logits("b.safetensors", parts: 1)
    // Biases beside the layers are binary16.
    #expect(zip(plain, other).allSatisfy { abs($0 - $1) < (hasBiases ? 1e-2 : 1e-3) })
    if !hasBiases {
      #expect(try logits("a.safetensors", parts: 2) == logits("b.safetensors", parts: 2))
    }
  }

  /// Calibrated and moved at once: the order of attention's outputs stays inside heads, and lies in
  /// the values' rows and biases; the mark names it.
  @Test(arguments: [true, false])
  func orderOfHeadsMoves(hasBiases: Bool) throws {
    let (heads, keyValueHeads, dimension) = (6, 3, 32)
    let bench = try Workbench(.llama, type: .f32) {
      $0.hasBiases = hasBiases
      $0.headCount = heads
      $0.keyValueHeadCount = keyValueHeads
      $0.headDimension = dimension
      $0.embeddingLength = 96
    }
    var options = ModelConverter.Options()
    options.calibrationText = Self.text
    options.actOrder = true
    options.calibrationTokens = 800
    options.groupSize = 32
    try bench.convert(bench.source, to: .safetensors(.gptq), "plain.safetensors", options)
    options.movesInputOrder = true
    let summary = try bench.convert(
      bench.source, to: .safetensors(.gptq), "moved.safetensors", options)
    // The workbench's model has one layer.
    #expect(summary.movedBlocks == 1 && summary.movedAttentions == 1)
    let calibration = try #require(summary.calibration)
    #expect(calibration.layers.allSatisfy { $0.error < $0.roundingError })
    func layer(_ file: String, _ name: String) throws -> Int4Matrix {
      try bench.layer(
        file, "model.layers.0.self_attn.\(name)",
        bench.safetensors(file).files[0].metadata["checkpoint_format"] == "gptq_v2"
          ? .gptqV2 : .gptq)
    }
    let moved = try layer("moved.safetensors", "v_proj")
    let value = try layer("plain.safetensors", "v_proj")
    #expect(try layer("moved.safetensors", "o_proj").inputPermutation == nil)
    #expect(try layer("plain.safetensors", "o_proj").inputPermutation != nil)
    for name in ["q_proj", "k_proj"] {
      #expect(try layer("moved.safetensors", name) == layer("plain.safetensors", name))
    }
    // The order, from the rows themselves.
    let rows = try (0..<value.rows).map { try value.rows($0..<$0 + 1) }
    let order = try (0..<moved.rows).map { row in
      Int32(try #require(rows.firstIndex(of: try moved.rows(row..<row + 1))))
    }
    #expect(order != Array(0..<Int32(order.count)))
    for (place, row) in order.enumerated() { #expect(place / dimension == Int(row) / dimension) }
    let sharing = heads / keyValueHeads
    let whole = (0..<heads).flatMap { head in
      (0..<dimension).map { channel in
        Int32(head * dimension) + order[head / sharing * dimension + channel]
          - Int32(head / sharing * dimension)
      }
    }
    let model = try bench.safetensors("moved.safetensors")
    let mark = try #require(model.files[0].metadata["tp_aware.model.layers.0.self_attn"])
    #expect(UInt64(mark, radix: 16) == (try Permutation(whole)).checksum)
    if hasBiases {
      func bias(_ file: String) throws -> [[UInt8]] {
        let model = try bench.safetensors(file)
        let name = "model.layers.0.self_attn.v_proj.bias"
        let bytes = Array(model.bytes(of: try #require(model.tensor(named: name))))
        return stride(from: 0, to: bytes.count, by: 2).map { Array(bytes[$0..<$0 + 2]) }
      }
      let before = try bias("plain.safetensors")
      #expect(try bias("moved.safetensors") == order.map { before[Int($0)] })
    }
    // A second pass is refused; the model is as near to the floats as with an order of any kind.
    var again = ModelConverter.Options()
    again.movesInputOrder = true
    let error = #expect(throws: QuantError.self) {
      try bench.convert(
        bench.folder.file("moved.safetensors"), to: .safetensors(.gptq), "d.safetensors", again)
    }
    #expect(error?.problem.contains("already") == true)
    func logits(_ int4: String?) throws -> [Float] {
      var options = LanguageModel.Options()
      options.threads = 1
      options.arithmetic = .exact
      options.contextLength = 16
      options.int4Layers = int4.map { bench.folder.file($0) }
      let session = try LanguageModel(path: bench.source, options: options).makeSession()
      try session.forward([5, 6, 7])
      return Array(session.logits)
    }
    let floats = try logits(nil)
    func distance(_ file: String) throws -> Float {
      zip(try logits(file), floats).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
    #expect(try distance("moved.safetensors") < 2 * distance("plain.safetensors"))
  }

  @Test func badOptions() throws {
    let bench = try Workbench(.llama, type: .f32)
    func code(
      _ target: ConversionTarget = .safetensors(.gptq), source: String? = nil,
      _ change: (inout ModelConverter.Options) -> Void
    ) -> QuantError.Code? {
      var options = ModelConverter.Options()
      change(&options)
      do {
        try bench.convert(source ?? bench.source, to: target, "bad.safetensors", options)
        return nil
      } catch { return (error as? QuantError)?.code }
    }
    #expect(code { $0.actOrder = true } == .invalidArgument)
    #expect(code { $0.calibrationText = [] } == .invalidArgument)
    #expect(
      code {
        $0.calibrationText = Self.text
        $0.calibrationTokens = 1
      } == .invalidArgument)
    for target in [ConversionTarget.safetensors(.awq), .safetensors(.marlin), .gguf(.q4_0)] {
      #expect(code(target) { $0.calibrationText = Self.text } == .unsupported)
    }
    #expect(bench.folder.names == ["source.gguf"])
  }
}
