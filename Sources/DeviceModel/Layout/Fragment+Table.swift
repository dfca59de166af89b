// The table of instruction fragments. In the comments g = lane div 4, t = lane mod 4, v₀ v₁ v₂ the
// digits of the element number. NVIDIA's maps: PTX ISA, "Matrix fragments"; Volta's: the same
// section for .m8n8k4; Ascend's: CANN documentation of the fractal formats (L0A zZ, L0B nZ, L0C
// zN); x86's: VPDPBUSD and VPMADDUBSW in Intel's manual; Arm's: SDOT and SMMLA in the Arm
// Architecture Reference Manual.
extension Fragment {
  // MARK: mma.sync, Ampere and later

  /// 16×16 halves: row g + 8·v₁, k 2t + v₀ + 8·v₂.
  public static let mmaM16N8K16A = Fragment(
    unchecked: "mma.m16n8k16.f16.a", operand: .a, elementBits: 16,
    lane: [Digit(4, .column, stride: 2), Digit(8, .row)],
    element: [Digit(2, .column), Digit(2, .row, stride: 8), Digit(2, .column, stride: 8)])

  /// 16×8 halves: k 2t + v₀ + 8·v₁, n g.
  public static let mmaM16N8K16B = Fragment(
    unchecked: "mma.m16n8k16.f16.b", operand: .b, elementBits: 16,
    lane: [Digit(4, .row, stride: 2), Digit(8, .column)],
    element: [Digit(2, .row), Digit(2, .row, stride: 8)])

  /// 16×8 floats: row g + 8·v₁, column 2t + v₀.
  public static let mmaM16N8K16C = Fragment(
    unchecked: "mma.m16n8k16.f32.c", operand: .accumulator, elementBits: 32,
    lane: [Digit(4, .column, stride: 2), Digit(8, .row)],
    element: [Digit(2, .column), Digit(2, .row, stride: 8)])

  /// 16×32 bytes: row g + 8·v₁, k 4t + v₀ + 16·v₂ with v₀ in 0…3.
  public static let mmaM16N8K32A = Fragment(
    unchecked: "mma.m16n8k32.s8.a", operand: .a, elementBits: 8,
    lane: [Digit(4, .column, stride: 4), Digit(8, .row)],
    element: [Digit(4, .column), Digit(2, .row, stride: 8), Digit(2, .column, stride: 16)])

  /// 32×8 bytes: k 4t + v₀ + 16·v₁, n g.
  public static let mmaM16N8K32B = Fragment(
    unchecked: "mma.m16n8k32.s8.b", operand: .b, elementBits: 8,
    lane: [Digit(4, .row, stride: 4), Digit(8, .column)],
    element: [Digit(4, .row), Digit(2, .row, stride: 16)])

  /// 16×8 int32, placed as the half product's accumulator.
  public static let mmaM16N8K32C = Fragment(
    unchecked: "mma.m16n8k32.s32.c", operand: .accumulator, elementBits: 32,
    lane: [Digit(4, .column, stride: 2), Digit(8, .row)],
    element: [Digit(2, .column), Digit(2, .row, stride: 8)])

  // MARK: mma.sync.m8n8k4, Volta
  //
  // Four independent 8×8×4 products, one for each quad-pair q = lanes 4q…4q+3 and 16+4q…19+4q; t₈ =
  // 0…7 counts the lanes inside a pair, so lane = t₈ mod 4 + 4q + 16·(t₈ div 4).

  /// A stored row by row: m t₈, k v.
  public static let voltaARowMajor = Fragment(
    unchecked: "mma.m8n8k4.f16.a.row", operand: .a, elementBits: 16,
    lane: [Digit(4, .row), Digit(4, .tile), Digit(2, .row, stride: 4)],
    element: [Digit(4, .column)])

  /// A stored column by column: m 4·(t₈ div 4) + v, k t₈ mod 4.
  public static let voltaAColumnMajor = Fragment(
    unchecked: "mma.m8n8k4.f16.a.col", operand: .a, elementBits: 16,
    lane: [Digit(4, .column), Digit(4, .tile), Digit(2, .row, stride: 4)],
    element: [Digit(4, .row)])

  /// B stored row by row, the mirror of A column by column: n 4·(t₈ div 4) + v, k t₈ mod 4.
  public static let voltaBRowMajor = Fragment(
    unchecked: "mma.m8n8k4.f16.b.row", operand: .b, elementBits: 16,
    lane: [Digit(4, .row), Digit(4, .tile), Digit(2, .column, stride: 4)],
    element: [Digit(4, .column)])

  /// B stored column by column, the mirror of A row by row: n t₈, k v.
  public static let voltaBColumnMajor = Fragment(
    unchecked: "mma.m8n8k4.f16.b.col", operand: .b, elementBits: 16,
    lane: [Digit(4, .column), Digit(4, .tile), Digit(2, .column, stride: 4)],
    element: [Digit(4, .row)])

  /// Half accumulator: m t₈, n v.
  public static let voltaCHalf = Fragment(
    unchecked: "mma.m8n8k4.f16.c", operand: .accumulator, elementBits: 16,
    lane: [Digit(4, .row), Digit(4, .tile), Digit(2, .row, stride: 4)],
    element: [Digit(8, .column)])

  /// Float accumulator, with t₀ t₁ t₂ the bits of t₈: m t₀ + 4·t₂ + 2·v₁, n 2·t₁ + v₀ + 4·v₂.
  public static let voltaCFloat = Fragment(
    unchecked: "mma.m8n8k4.f32.c", operand: .accumulator, elementBits: 32,
    lane: [
      Digit(2, .row), Digit(2, .column, stride: 2), Digit(4, .tile), Digit(2, .row, stride: 4),
    ],
    element: [Digit(2, .column), Digit(2, .row, stride: 2), Digit(2, .column, stride: 4)])

  // MARK: ldmatrix, Turing and later

  /// 8×8 matrices of halves: row g, columns 2t and 2t + 1; register r is matrix r.
  public static let ldmatrixX1 = ldmatrix("x1", transposed: false, matrices: 1)
  /// Two matrices: four elements a lane.
  public static let ldmatrixX2 = ldmatrix("x2", transposed: false, matrices: 2)
  /// Four matrices: eight elements a lane, an A operand of m16n8k16.
  public static let ldmatrixX4 = ldmatrix("x4", transposed: false, matrices: 4)
  /// Transposed on the way: rows 2t and 2t + 1, column g.
  public static let ldmatrixX1Transposed = ldmatrix("x1.trans", transposed: true, matrices: 1)
  /// Two matrices transposed: a B operand of m16n8k16.
  public static let ldmatrixX2Transposed = ldmatrix("x2.trans", transposed: true, matrices: 2)
  /// Four matrices transposed: two B operands of m16n8k16.
  public static let ldmatrixX4Transposed = ldmatrix("x4.trans", transposed: true, matrices: 4)

  private static func ldmatrix(_ suffix: String, transposed: Bool, matrices: Int) -> Fragment {
    let pairs: Axis = transposed ? .row : .column
    let groups: Axis = transposed ? .column : .row
    return Fragment(
      unchecked: "ldmatrix.\(suffix)", operand: transposed ? .b : .a, elementBits: 16,
      lane: [Digit(4, pairs, stride: 2), Digit(8, groups)],
      element: [Digit(2, pairs)] + (matrices > 1 ? [Digit(matrices, .tile)] : []))
  }

  // MARK: The Ascend cube: one core, no lanes; a fractal is 512 contiguous bytes (L0C: 1 KiB)

  /// 16×16 halves of A, row by row (the small z of zZ).
  public static let cubeHalfA = Fragment(
    unchecked: "cube.f16.a", operand: .a, elementBits: 16, lane: [],
    element: [Digit(16, .column), Digit(16, .row)])

  /// 16×16 halves of B, column by column (the small n of nZ): k is contiguous.
  public static let cubeHalfB = Fragment(
    unchecked: "cube.f16.b", operand: .b, elementBits: 16, lane: [],
    element: [Digit(16, .row), Digit(16, .column)])

  /// 16×32 bytes of A.
  public static let cubeByteA = Fragment(
    unchecked: "cube.s8.a", operand: .a, elementBits: 8, lane: [],
    element: [Digit(32, .column), Digit(16, .row)])

  /// 32×16 bytes of B.
  public static let cubeByteB = Fragment(
    unchecked: "cube.s8.b", operand: .b, elementBits: 8, lane: [],
    element: [Digit(32, .row), Digit(16, .column)])

  /// 16×16 accumulators, row by row (the small z of zN).
  public static let cubeAccumulator = Fragment(
    unchecked: "cube.f32.c", operand: .accumulator, elementBits: 32, lane: [],
    element: [Digit(16, .column), Digit(16, .row)])

  // MARK: CPU dot products: lane = output, element = k

  /// AVX-512 VNNI `vpdpbusd zmm`: 16 outputs × 4 k.
  public static let vpdpbusd512 = dot("vpdpbusd.512", outputs: 16, inputs: 4)
  /// AVX-VNNI or AVX-512VL `vpdpbusd ymm`: 8 outputs × 4 k.
  public static let vpdpbusd256 = dot("vpdpbusd.256", outputs: 8, inputs: 4)
  /// AVX2 `vpmaddubsw` then `vpmaddwd` by ones: 8 outputs × 4 k.
  public static let maddubs256 = dot("vpmaddubsw.256", outputs: 8, inputs: 4)
  /// NEON dot product `sdot`/`udot`: 4 outputs × 4 k.
  public static let sdot = dot("sdot", outputs: 4, inputs: 4)
  /// NEON int8 matrix multiply `smmla`: 2 outputs × 8 k.
  public static let smmla = dot("smmla", outputs: 2, inputs: 8)

  private static func dot(_ name: String, outputs: Int, inputs: Int) -> Fragment {
    Fragment(
      unchecked: name, operand: .b, elementBits: 8, lane: [Digit(outputs, .column)],
      element: [Digit(inputs, .row)])
  }

  // MARK: No instruction

  /// One element: for orders that follow the matrix and no instruction (AWQ's and GPTQ's files).
  public static let scalar = Fragment(
    unchecked: "scalar", operand: .b, elementBits: 32, lane: [], element: [])

  /// Every fragment of the table.
  public static let all: [Fragment] = [
    mmaM16N8K16A, mmaM16N8K16B, mmaM16N8K16C, mmaM16N8K32A, mmaM16N8K32B, mmaM16N8K32C,
    voltaARowMajor, voltaAColumnMajor, voltaBRowMajor, voltaBColumnMajor, voltaCHalf, voltaCFloat,
    ldmatrixX1, ldmatrixX2, ldmatrixX4,
    ldmatrixX1Transposed, ldmatrixX2Transposed, ldmatrixX4Transposed,
    cubeHalfA, cubeHalfB, cubeByteA, cubeByteB, cubeAccumulator,
    vpdpbusd512, vpdpbusd256, maddubs256, sdot, smmla, scalar,
  ]
}
