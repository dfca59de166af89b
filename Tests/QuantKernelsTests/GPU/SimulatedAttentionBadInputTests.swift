import DeviceModel
import Testing

@testable import QuantKernels

@Suite struct SimulatedAttentionBadInputTests {
  private func code(_ body: () throws -> Void) -> QuantError.Code? {
    do {
      try body()
      return nil
    } catch let error as QuantError {
      return error.code
    } catch {
      Issue.record("\(error)")
      return nil
    }
  }

  private func shapeCode(
    _ queries: Int = 4, _ keys: Int = 4, heads: Int = 4, keyValueHeads: Int? = nil,
    width: Int = 64
  ) -> QuantError.Code? {
    code {
      _ = try DeviceAttentionShape(
        queryLength: queries, keyLength: keys, heads: heads, keyValueHeads: keyValueHeads,
        headDimension: width)
    }
  }

  @Test func shapes() {
    #expect(shapeCode() == nil)
    #expect(shapeCode(width: 0) == .invalidArgument)
    #expect(shapeCode(width: -8) == .invalidArgument)
    #expect(shapeCode(width: 129) == .unsupported)
    #expect(shapeCode(heads: 4, keyValueHeads: 3) == .invalidArgument)
    #expect(shapeCode(heads: 0) == .invalidArgument)
    #expect(shapeCode(heads: 4, keyValueHeads: 0) == .invalidArgument)
    #expect(shapeCode(heads: .max, keyValueHeads: 1) == .invalidArgument)
    #expect(shapeCode(-1) == .invalidArgument)
    #expect(shapeCode(4, -1) == .invalidArgument)
    #expect(shapeCode(.max) == .invalidArgument)
    #expect(shapeCode(4, 1 << 25) == .invalidArgument)
  }

  @Test(arguments: GPUAttentionKernel.allCases)
  func contents(_ kernel: GPUAttentionKernel) throws {
    let shape = try DeviceAttentionShape(
      queryLength: 2, keyLength: 3, heads: 2, keyValueHeads: 1, headDimension: 8)
    func run(
      queries: Int = 32, keys: Int = 24, values: Int = 24, scale: Float? = nil,
      on device: DeviceSpec? = nil
    ) -> QuantError.Code? {
      code {
        _ = try SimulatedAttention.run(
          kernel, shape: shape, queries: Array(repeating: 0, count: queries),
          keys: Array(repeating: 0, count: keys), values: Array(repeating: 0, count: values),
          scale: scale, on: device ?? (kernel == .flash ? .a100x80 : .v100))
      }
    }
    #expect(run() == nil)
    #expect(run(queries: 31) == .invalidArgument)
    #expect(run(queries: 0) == .invalidArgument)
    #expect(run(keys: 48) == .invalidArgument)
    #expect(run(values: 0) == .invalidArgument)
    #expect(run(scale: .nan) == .invalidArgument)
    #expect(run(scale: .infinity) == .invalidArgument)
    switch kernel {
    case .flash: #expect(run(on: .v100) == .unsupported)
    case .volta, .xformers: #expect(run(on: .a100x80) == .unsupported)
    case .unfused: #expect(run(on: .a100x80) == nil)
    }
  }

  /// Past 4 GiB of a buffer: refused, and nothing is allocated.
  @Test func sizes() throws {
    let huge = try DeviceAttentionShape(
      queryLength: 1 << 24, keyLength: 1 << 24, heads: 65536, headDimension: 128)
    #expect(
      code { _ = try SimulatedAttention.count(.volta, shape: huge, on: .v100) }
        == .invalidArgument)
    // Just below: two operands of 4 GiB, of which a few pages are touched.
    let wide = try DeviceAttentionShape(
      queryLength: 128, keyLength: (1 << 20) - 64, heads: 16, headDimension: 128)
    let counted = try SimulatedAttention.count(.volta, shape: wide, on: .v100)
    #expect(counted.counters.globalMemory.bytes > (1 << 33) - (1 << 20))
    #expect(counted.simulatedLaneAccesses < 1 << 22)
    // A real run's scores do not fit, a count's do.
    let square = try DeviceAttentionShape(
      queryLength: 1 << 16, keyLength: 1 << 16, heads: 1, headDimension: 8)
    #expect(
      code {
        let zeros = [UInt16](repeating: 0, count: 8 << 16)
        _ = try SimulatedAttention.run(
          .unfused, shape: square, queries: zeros, keys: zeros, values: zeros, on: .v100)
      } == .unsupported)
  }

  @Test func tiles() throws {
    #expect(code { _ = try FlashAttentionKernel.Tile(warps: 0, keys: 64) } == .invalidArgument)
    #expect(code { _ = try FlashAttentionKernel.Tile(warps: 4, keys: 48) } == .invalidArgument)
    #expect(
      code { _ = try OperandTile(rows: 0, columns: 64, order: .swizzled) } == .invalidArgument)
    #expect(
      code { _ = try OperandTile(rows: 8, columns: 80, order: .swizzled) } == .unsupported)
    // More shared memory than the device's block can have, more registers than a thread's.
    var options = FlashAttentionKernel.Options()
    options.tile = try FlashAttentionKernel.Tile(warps: 8, keys: 128)
    let shape = try DeviceAttentionShape(
      queryLength: 8, keyLength: 8, heads: 1, headDimension: 128)
    #expect(
      code { _ = try SimulatedAttention.count(.volta, shape: shape, on: .v100, options: options) }
        == .unsupported)
  }

  /// Every tile whose scores and output fit a thread's registers; the others are refused.
  @Test func everyTileGivesTheReference() throws {
    var ran = 0
    let test = DeviceAttentionCase(
      queryLength: 70, keyLength: 140, width: 64, causal: true)
    let reference = test.reference()
    for warps in [1, 2, 3, 8] {
      for keys in [32, 64, 128] {
        var options = FlashAttentionKernel.Options()
        options.tile = try FlashAttentionKernel.Tile(warps: warps, keys: keys)
        for kernel in [GPUAttentionKernel.volta, .flash] {
          let isVolta = kernel == .volta
          let held =
            64 + keys + (isVolta ? 16 + 4 * ((keys * 8 + 32 * warps - 1) / (32 * warps)) : 0)
          let refused = code {
            let run = try test.run(kernel, options, checks: true)
            #expect(DeviceAttentionCase.errors(run.output, reference).worst <= 1)
          }
          // 12 of operands and 40 of addresses, Volta's words of P in the 16.
          #expect(
            refused == (held + (isVolta ? 44 : 52) > 255 ? .unsupported : nil),
            "\(kernel) \(warps) × \(keys): \(held)")
          ran += refused == nil ? 1 : 0
        }
      }
    }
    #expect(ran >= 16)
  }
}
