/// A tokenizer's tables as a file states them: plain data, not yet checked.
///
/// ``Tokenizer/init(vocabulary:)`` checks it and derives what the file leaves open.
public struct TokenizerVocabulary: Sendable {
  /// The algorithm, by its name in `tokenizer.ggml.model`.
  public enum Model: String, Sendable, CaseIterable {
    /// Byte-level byte pair encoding, driven by a list of merges.
    case bytePair = "gpt2"
    /// SentencePiece-style byte pair encoding, driven by the tokens' scores.
    case sentencePiece = "llama"
    /// Byte pair encoding by merges over plain UTF-8, with spaces as U+2581.
    case gemma4
  }

  /// A token's kind, by its number in `tokenizer.ggml.token_type`.
  public enum TokenType: Int, Sendable {
    case undefined = 0
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// Ids of tokens with a role. Ids outside the vocabulary count as not given.
  public struct SpecialTokens: Sendable, Equatable {
    public var beginningOfSequence: Int?
    public var endOfSequence: Int?
    public var endOfTurn: Int?
    public var endOfMessage: Int?
    public var unknown: Int?
    public var padding: Int?
    public var fillInMiddlePrefix: Int?
    public var fillInMiddleSuffix: Int?
    public var fillInMiddleMiddle: Int?
    public var fillInMiddlePadding: Int?
    public var fillInMiddleRepository: Int?
    public var fillInMiddleSeparator: Int?

    public init() {}
  }

  public var model: Model
  /// How byte-level models cut text into words (`tokenizer.ggml.pre`); empty is "default".
  public var preTokenizer = ""
  /// The tokens' texts, byte-level ones in GPT-2's printable spelling. Need not be UTF-8.
  public var tokens: [[UInt8]]
  /// One a token, or empty for all zero. Excess elements are ignored.
  public var scores: [Float] = []
  /// One a token, or empty for all normal. Excess elements are ignored.
  public var tokenTypes: [TokenType] = []
  /// Merges by rank, each two texts with a space between. Nil when the file has none.
  public var merges: [[UInt8]]?
  public var specialTokens = SpecialTokens()
  /// Further tokens after which a model has finished, as Hugging Face directories list them.
  public var endOfGeneration: [Int] = []
  /// Nil leaves the choice to the model and the pre-tokenizer.
  public var addsBeginningOfSequence: Bool?
  public var addsEndOfSequence: Bool?
  public var addsSpacePrefix: Bool?
  /// `general.name`: some models strip white space after special tokens and are told by their name.
  public var modelName = ""

  public init(model: Model, tokens: [[UInt8]]) {
    self.model = model
    self.tokens = tokens
  }
}
