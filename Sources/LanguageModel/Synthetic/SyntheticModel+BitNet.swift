import QuantKernels

extension SyntheticModel {
  /// The sizes of dummy BitNet b1.58 models (arXiv 2410.16144, appendix A), and that of the one
  /// that Microsoft published.
  public enum BitNetSize: String, Sendable, CaseIterable {
    /// 125 million weights.
    case m125 = "125M"
    /// 350 million weights.
    case m350 = "350M"
    /// 700 million weights.
    case m700 = "700M"
    /// 1 billion weights.
    case b1 = "1B"
    /// 1.5 billion weights.
    case b1x5 = "1.5B"
    /// 2.5 billion weights.
    case b2x5 = "2.5B"
    /// 3.8 billion weights.
    case b3x8 = "3.8B"
    /// The published bitnet-b1.58-2B-4T.
    case b2x4t = "2B-4T"

    /// Width, feed-forward width, layers, heads. The paper gives no heads; they are those of the
    /// published models of these widths.
    var shape: (width: Int, hidden: Int, layers: Int, heads: Int) {
      switch self {
      case .m125: (768, 3072, 11, 12)
      case .m350: (1024, 3072, 24, 16)
      case .m700: (1536, 4096, 24, 16)
      case .b1: (2048, 3584, 24, 32)
      case .b1x5: (1536, 9216, 28, 16)
      case .b2x5: (2560, 6912, 30, 20)
      case .b3x8: (3840, 8192, 24, 30)
      case .b2x4t: (2560, 6912, 30, 20)
      }
    }
  }

  /// A BitNet b1.58 model: ternary layers, float16 embedding that is also the head.
  ///
  /// - Parameters:
  ///   - architecture: the spelling; `.bitnet` runs in llama.cpp too.
  ///   - type: `.tq1_0`, `.tq2_0` or `.i2_s` of the layers, or a float type of the same values.
  ///   - headType: of the embedding, so of the head.
  ///   - size: which of the sizes.
  public static func bitNet(
    _ size: BitNetSize, architecture: ModelConfiguration.Architecture = .bitnetB158,
    type: GGMLType = .i2_s, headType: GGMLType = .f16
  ) -> SyntheticModel {
    var model = SyntheticModel(architecture)
    let shape = size.shape
    model.layerCount = shape.layers
    model.embeddingLength = shape.width
    model.feedForwardLength = shape.hidden
    model.headCount = shape.heads
    model.keyValueHeadCount = size == .b2x4t ? 5 : shape.heads
    model.headDimension = shape.width / shape.heads
    model.contextLength = size == .b2x4t ? 4096 : 2048
    model.vocabularySize = size == .b2x4t ? 128_256 : 32_002
    model.rotaryBase = size == .b2x4t ? 500_000 : 10_000
    model.weightType = type
    model.embeddingType = headType
    return model
  }
}

extension SeededRandom {
  /// Ternary codes with the frequencies of bitnet-b1.58-2B-4T: 74, 108 and 74 of 256 for −1, 0, +1.
  mutating func ternaryCodes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { codes, filled in
      var index = 0
      while index < count {
        var bits = next()
        for _ in 0..<min(8, count - index) {
          let byte = UInt8(truncatingIfNeeded: bits)
          codes[index] = (byte >= 74 ? 1 : 0) + (byte >= 182 ? 1 : 0)
          bits >>= 8
          index += 1
        }
      }
      filled = count
    }
  }

  /// Variance of what ``ternaryCodes(_:)`` stands for.
  static let ternaryVariance: Float = 148.0 / 256
}
