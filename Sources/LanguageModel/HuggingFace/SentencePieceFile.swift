import QuantKernels

/// `tokenizer.model`: a SentencePiece model, of which the pieces and the normalization are read.
///
/// A protocol buffer; field numbers are those of google/sentencepiece
/// `src/sentencepiece_model.proto`. Unknown fields are skipped.
struct SentencePieceFile {
  struct Piece: Equatable {
    var text: [UInt8] = []
    var score: Float = 0
    /// As ``TokenizerVocabulary/TokenType``, whose numbers are these.
    var type = 1
  }

  private(set) var pieces: [Piece] = []
  /// Whether texts begin as if a space stood before them.
  private(set) var addsSpacePrefix = true

  init(pieces: [Piece], addsSpacePrefix: Bool) {
    self.pieces = pieces
    self.addsSpacePrefix = addsSpacePrefix
  }

  /// - Throws: ``QuantError`` `.missingFile`; `.invalidData` for bytes that are no such model;
  ///   `.unsupported` for a unigram model, or one that normalizes text.
  init(path: String) throws(QuantError) {
    let file = try MappedFile(path: path)
    defer { withExtendedLifetime(file) {} }
    func unsupported(_ problem: String) -> QuantError {
      QuantError(
        .unsupported, path, problem,
        remedy: "use a model whose tokenizer is byte pair encoding without normalization")
    }
    var modelType: UInt64 = 1
    var normalizes = false
    var removesSpaces = true
    var message = Message(file.bytes, path: path)
    while let field = try message.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let bytes)): pieces.append(try Self.piece(bytes, path: path))
      case (2, .bytes(let bytes)):
        var trainer = Message(bytes, path: path)
        while let field = try trainer.next() {
          if field.number == 3, case .integer(let type) = field.value { modelType = type }
        }
      case (3, .bytes(let bytes)):
        var normalizer = Message(bytes, path: path)
        while let field = try normalizer.next() {
          switch (field.number, field.value) {
          case (2, .bytes(let map)): normalizes = !map.isEmpty
          case (3, .integer(let flag)): addsSpacePrefix = flag != 0
          case (4, .integer(let flag)): removesSpaces = flag != 0
          default: break
          }
        }
      default: break
      }
    }
    guard !pieces.isEmpty else { throw message.damaged("there are no pieces") }
    guard modelType == 2 else { throw unsupported("its model type \(modelType) is not BPE") }
    guard !normalizes, !removesSpaces else { throw unsupported("it normalizes text") }
  }

  private static func piece(
    _ bytes: UnsafeRawBufferPointer, path: String
  ) throws(QuantError) -> Piece {
    var piece = Piece()
    var message = Message(bytes, path: path)
    while let field = try message.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let text)): piece.text = Array(text)
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .integer(let type)): piece.type = (1...6).contains(type) ? Int(type) : 0
      default: break
      }
    }
    return piece
  }

  // MARK: Writing

  /// The file's bytes.
  func serialized() -> [UInt8] {
    var bytes: [UInt8] = []
    func append(_ field: UInt8, _ content: [UInt8], to bytes: inout [UInt8]) {
      bytes.append(field << 3 | 2)
      Self.append(varint: UInt64(content.count), to: &bytes)
      bytes += content
    }
    for piece in pieces {
      var content: [UInt8] = []
      append(1, piece.text, to: &content)
      content.append(2 << 3 | 5)
      content.append(littleEndian: piece.score.bitPattern)
      if piece.type != 1 { content += [3 << 3, UInt8(truncatingIfNeeded: piece.type)] }
      append(1, content, to: &bytes)
    }
    // Trainer: model_type BPE, byte_fallback (field 35). Normalizer: identity, no removal of spaces.
    append(2, [3 << 3, 2, 0x98, 0x02, 1], to: &bytes)
    var normalizer: [UInt8] = []
    append(1, Array("identity".utf8), to: &normalizer)
    normalizer += [3 << 3, addsSpacePrefix ? 1 : 0, 4 << 3, 0, 5 << 3, 1]
    append(3, normalizer, to: &bytes)
    return bytes
  }

  private static func append(varint value: UInt64, to bytes: inout [UInt8]) {
    var left = value
    while left >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: left) | 0x80)
      left >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: left))
  }

  /// A protocol buffer's fields, one after another.
  private struct Message {
    enum Value {
      case integer(UInt64)
      case fixed32(UInt32)
      case bytes(UnsafeRawBufferPointer)
      case other
    }

    private var cursor: ByteCursor
    private let path: String

    init(_ bytes: UnsafeRawBufferPointer, path: String) {
      cursor = ByteCursor(bytes)
      self.path = path
    }

    func damaged(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, path, "is no SentencePiece model: \(problem)",
        remedy: "fetch the file again")
    }

    private mutating func varint() throws(QuantError) -> UInt64 {
      var value: UInt64 = 0
      for shift in stride(from: UInt64(0), to: 64, by: 7) {
        guard let byte = cursor.uint8() else { throw damaged("it ends within a number") }
        value |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return value }
      }
      throw damaged("a number has more than ten bytes")
    }

    mutating func next() throws(QuantError) -> (number: UInt64, value: Value)? {
      guard cursor.remaining > 0 else { return nil }
      let tag = try varint()
      switch tag & 7 {
      case 0: return (tag >> 3, .integer(try varint()))
      case 1:
        guard cursor.slice(8) != nil else { throw damaged("it ends within a field") }
        return (tag >> 3, .other)
      case 2:
        guard let count = Int(exactly: try varint()), let bytes = cursor.slice(count) else {
          throw damaged("a field runs past its end")
        }
        return (tag >> 3, .bytes(bytes))
      case 5:
        guard let bits = cursor.uint32() else { throw damaged("it ends within a field") }
        return (tag >> 3, .fixed32(bits))
      default: throw damaged("a field has the wire type \(tag & 7)")
      }
    }
  }
}
