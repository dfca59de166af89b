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
    /// Not stated.
    case undefined = 0
    /// A piece of text.
    case normal = 1
    /// Stands for what cannot be spelled.
    case unknown = 2
    /// A mark without text of its own.
    case control = 3
    /// A text that is found before all others.
    case userDefined = 4
    /// Never produced.
    case unused = 5
    /// One byte, `<0x00>` to `<0xFF>`.
    case byte = 6
  }

  /// Ids of tokens with a role. Ids outside the vocabulary count as not given.
  public struct SpecialTokens: Sendable, Equatable {
    /// Begins a sequence (BOS).
    public var beginningOfSequence: Int?
    /// Ends a sequence (EOS).
    public var endOfSequence: Int?
    /// Ends a turn (EOT).
    public var endOfTurn: Int?
    /// Ends a message that a tool answers (EOM).
    public var endOfMessage: Int?
    /// Stands for what cannot be spelled.
    public var unknown: Int?
    /// Fills batches.
    public var padding: Int?
    /// Before the text in front of a gap.
    public var fillInMiddlePrefix: Int?
    /// Before the text behind a gap.
    public var fillInMiddleSuffix: Int?
    /// Before the text that fills a gap.
    public var fillInMiddleMiddle: Int?
    /// Fills a gap's place.
    public var fillInMiddlePadding: Int?
    /// Before a repository's name.
    public var fillInMiddleRepository: Int?
    /// Between files.
    public var fillInMiddleSeparator: Int?

    /// No special tokens.
    public init() {}
  }

  /// How text is cut into tokens.
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
  /// Tokens with a role.
  public var specialTokens = SpecialTokens()
  /// Further tokens after which a model has finished, as Hugging Face directories list them.
  public var endOfGeneration: [Int] = []
  /// Nil leaves the choice to the model and the pre-tokenizer.
  public var addsBeginningOfSequence: Bool?
  /// Nil: none is added.
  public var addsEndOfSequence: Bool?
  /// Nil leaves the choice to the model.
  public var addsSpacePrefix: Bool?
  /// `general.name`: some models strip white space after special tokens and are told by their name.
  public var modelName = ""

  /// A vocabulary with nothing but tokens.
  public init(model: Model, tokens: [[UInt8]]) {
    self.model = model
    self.tokens = tokens
  }
}
