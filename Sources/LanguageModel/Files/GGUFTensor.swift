import QuantKernels

/// One tensor of a GGUF file: its name, type, shape and place.
public struct GGUFTensor: Sendable, Equatable {
  /// The name in the file, such as `blk.0.attn_q.weight`.
  public let name: String
  /// The number of the element type in the file.
  public let typeNumber: UInt32
  /// Where the tensor's bytes begin, counted from the start of the file.
  public let offset: Int
  /// Bytes of the tensor in the file, padding not included.
  public let byteCount: Int
  /// Elements in all.
  public let elementCount: Int
  // Held inline, since a heap block for each would multiply what a header can make us allocate.
  private let sizes: (Int, Int, Int, Int)
  private let rank: UInt8
  let storage: Storage
  /// Which mapping holds the bytes: 0 is the GGUF file's own.
  let source: UInt16

  /// What the bytes are.
  enum Storage: UInt8, Sendable {
    /// Blocks of the type.
    case blocks
    /// A ternary matrix of `NativeContainer`.
    case nativeTernary
    /// A ternary matrix as Hugging Face checkpoints pack it.
    case packedTernary
    /// Floats that a BitNet layer rounds to ternary each time it runs.
    case roundedTernary
    /// The weight words of an int4 layer, whose other tensors lie beside it.
    case int4
  }

  init(
    name: String, typeNumber: UInt32, sizes: (Int, Int, Int, Int), rank: Int, offset: Int,
    byteCount: Int, storage: Storage = .blocks, source: UInt16 = 0
  ) {
    self.name = name
    self.typeNumber = typeNumber
    self.sizes = sizes
    self.rank = UInt8(rank)
    self.storage = storage
    self.source = source
    self.offset = offset
    self.byteCount = byteCount
    elementCount = sizes.0 * sizes.1 * sizes.2 * sizes.3
  }

  /// A tensor of bytes as the ternary matrix that they are.
  init(_ bytes: GGUFTensor, ternaryRows rows: Int, columns: Int) {
    name = bytes.name
    typeNumber = bytes.typeNumber
    offset = bytes.offset
    byteCount = bytes.byteCount
    sizes = (columns, rows, 1, 1)
    rank = 2
    storage = .nativeTernary
    source = bytes.source
    elementCount = rows * columns
  }

  /// The type, or nil where it is one that this package lists but does not compute with, or where
  /// the bytes are no blocks of a type.
  public var type: GGMLType? { storage == .blocks ? GGMLType(rawValue: typeNumber) : nil }

  /// Whether this is a ternary matrix with one scale, in whatever order.
  var isTernary: Bool {
    switch storage {
    case .nativeTernary, .packedTernary, .roundedTernary: true
    case .blocks, .int4: false
    }
  }

  /// The type's name as GGUF tools print it.
  public var typeName: String {
    switch storage {
    case .blocks: GGUFStorage(number: typeNumber)?.name ?? "type \(typeNumber)"
    case .nativeTernary, .packedTernary, .roundedTernary: "ternary"
    case .int4: "int4"
    }
  }

  /// Elements along each dimension, the fastest first: `dimensions[0]` is a row's length.
  public var dimensions: [Int] {
    Array([sizes.0, sizes.1, sizes.2, sizes.3].prefix(Int(rank)))
  }

  /// Elements of a row, the input features of a linear layer.
  public var columns: Int { sizes.0 }

  /// Rows, the product of all other dimensions; for a linear layer its output features.
  public var rows: Int { sizes.1 * sizes.2 * sizes.3 }

  public static func == (a: GGUFTensor, b: GGUFTensor) -> Bool {
    a.name.utf8.elementsEqual(b.name.utf8) && a.typeNumber == b.typeNumber && a.rank == b.rank
      && a.sizes == b.sizes && a.offset == b.offset && a.byteCount == b.byteCount
      && a.storage == b.storage && a.source == b.source
  }
}

/// How a GGUF tensor type lies in a file. Wider than ``GGMLType``: files with types that are not
/// computed with here can still be listed and copied.
struct GGUFStorage {
  let name: String
  let blockElements: Int
  let blockBytes: Int
  /// Bytes behind the last block; such a type's blocks run over the whole tensor, not over rows.
  let tailBytes: Int

  /// The type of tensors of plain bytes, I8.
  static let bytesNumber: UInt32 = 24

  /// Block sizes as in ggml's `ggml-common.h` and PyPI `gguf`'s `GGML_QUANT_SIZES`; numbers that no
  /// released file carries (Q8_1, Q8_K: activations only; 4, 5, 31–33, 37–38: withdrawn) are
  /// unknown. 36 was withdrawn too, and is I2_S in files of BitNet's fork.
  init?(number: UInt32) {
    if let type = GGMLType(rawValue: number) {
      self.init(
        name: type.name, blockElements: type.blockElements, blockBytes: type.blockBytes,
        tailBytes: type.tailBytes)
      return
    }
    switch number {
    case 10: self.init(name: "Q2_K", blockElements: 256, blockBytes: 84)
    case 11: self.init(name: "Q3_K", blockElements: 256, blockBytes: 110)
    case 16: self.init(name: "IQ2_XXS", blockElements: 256, blockBytes: 66)
    case 17: self.init(name: "IQ2_XS", blockElements: 256, blockBytes: 74)
    case 18: self.init(name: "IQ3_XXS", blockElements: 256, blockBytes: 98)
    case 19: self.init(name: "IQ1_S", blockElements: 256, blockBytes: 50)
    case 20: self.init(name: "IQ4_NL", blockElements: 32, blockBytes: 18)
    case 21: self.init(name: "IQ3_S", blockElements: 256, blockBytes: 110)
    case 22: self.init(name: "IQ2_S", blockElements: 256, blockBytes: 82)
    case 23: self.init(name: "IQ4_XS", blockElements: 256, blockBytes: 136)
    case 24: self.init(name: "I8", blockElements: 1, blockBytes: 1)
    case 25: self.init(name: "I16", blockElements: 1, blockBytes: 2)
    case 26: self.init(name: "I32", blockElements: 1, blockBytes: 4)
    case 27: self.init(name: "I64", blockElements: 1, blockBytes: 8)
    case 28: self.init(name: "F64", blockElements: 1, blockBytes: 8)
    case 29: self.init(name: "IQ1_M", blockElements: 256, blockBytes: 56)
    case 39: self.init(name: "MXFP4", blockElements: 32, blockBytes: 17)
    case 40: self.init(name: "NVFP4", blockElements: 64, blockBytes: 36)
    case 41: self.init(name: "Q1_0", blockElements: 128, blockBytes: 18)
    default: return nil
    }
  }

  private init(name: String, blockElements: Int, blockBytes: Int, tailBytes: Int = 0) {
    self.name = name
    self.blockElements = blockElements
    self.blockBytes = blockBytes
    self.tailBytes = tailBytes
  }

  /// Bytes of a tensor of `sizes`; nil when the rows do not divide into blocks or the product
  /// overflows.
  func byteCount(_ sizes: (Int, Int, Int, Int)) -> Int? {
    guard tailBytes > 0 || sizes.0 % blockElements == 0 else { return nil }
    var elements = sizes.0
    for factor in [sizes.1, sizes.2, sizes.3] {
      let (next, overflow) = elements.multipliedReportingOverflow(by: factor)
      if overflow { return nil }
      elements = next
    }
    guard elements % blockElements == 0 else { return nil }
    let (blocks, overflow) = (elements / blockElements).multipliedReportingOverflow(by: blockBytes)
    let (bytes, tailOverflow) = blocks.addingReportingOverflow(tailBytes)
    return overflow || tailOverflow ? nil : bytes
  }
}
