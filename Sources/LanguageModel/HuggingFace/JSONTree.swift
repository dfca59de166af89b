import QuantKernels

/// A small JSON document as a tree: configurations of Hugging Face directories, read and written.
///
/// Numbers keep their text, so that a float32 is written as it is spelled shortest. Reading is
/// bounded: the file's bytes, the values, and ``JSONCursor/maximumDepth`` of nesting.
indirect enum JSONTree: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(String)
  case string(String)
  case array([JSONTree])
  case object([(key: String, value: JSONTree)])

  /// Configurations of published models have some thousands.
  static let maximumValues = 1 << 20
  static let maximumFileBytes = 64 << 20

  static func integer(_ value: Int) -> JSONTree { .number(String(value)) }

  /// A float as the shortest text that reads back as it.
  static func float(_ value: Float) -> JSONTree { .number("\(value)") }

  // MARK: Reading

  /// Reads a whole file.
  ///
  /// - Throws: ``QuantError`` `.missingFile`; `.invalidData` for text that is no JSON, repeats a key
  ///   or holds too much.
  init(path: String) throws(QuantError) {
    let file = try MappedFile(path: path)
    defer { withExtendedLifetime(file) {} }
    guard file.bytes.count <= JSONTree.maximumFileBytes else {
      throw QuantError(
        .invalidData, path, "has \(file.bytes.count) bytes, too many for a configuration",
        remedy: "fetch the file again")
    }
    var json = JSONCursor(file.bytes, file: path)
    self = try JSONTree(&json)
    try json.expectEnd()
  }

  /// Reads the next value.
  init(_ json: inout JSONCursor) throws(QuantError) {
    var values = 0
    self = try JSONTree.read(&json, depth: 0, &values)
  }

  private static func read(
    _ json: inout JSONCursor, depth: Int, _ values: inout Int
  ) throws(QuantError) -> JSONTree {
    values += 1
    guard depth < JSONCursor.maximumDepth, values <= maximumValues else {
      throw json.error("values nest too deep or are too many")
    }
    switch json.peek() {
    case UInt8(ascii: "{"):
      try json.expect("{")
      var entries: [(key: String, value: JSONTree)] = []
      var names: Set<String> = []
      var first = true
      while let key = try json.key(&first) {
        guard names.insert(key).inserted else { throw json.error("\(quoted(key)) appears twice") }
        entries.append((key, try read(&json, depth: depth + 1, &values)))
      }
      return .object(entries)
    case UInt8(ascii: "["):
      try json.expect("[")
      var elements: [JSONTree] = []
      var first = true
      while try json.element(&first) {
        elements.append(try read(&json, depth: depth + 1, &values))
      }
      return .array(elements)
    case UInt8(ascii: "\""): return .string(try json.string())
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool(try json.bool())
    default: return try json.takeNull() ? .null : .number(try json.numberText())
    }
  }

  // MARK: Looking

  /// The value of a key, or nil where this is no object or has no such key, or the value is null.
  subscript(key: String) -> JSONTree? {
    guard case .object(let entries) = self,
      let value = entries.first(where: { $0.key == key })?.value, value != .null
    else { return nil }
    return value
  }

  var elements: [JSONTree]? {
    guard case .array(let elements) = self else { return nil }
    return elements
  }

  var text: String? {
    guard case .string(let text) = self else { return nil }
    return text
  }

  var bool: Bool? {
    guard case .bool(let bool) = self else { return nil }
    return bool
  }

  /// A whole number that is written as one.
  var integer: Int? {
    guard case .number(let text) = self else { return nil }
    return Int(text)
  }

  var double: Double? {
    guard case .number(let text) = self else { return nil }
    return Double(text)
  }

  static func == (a: JSONTree, b: JSONTree) -> Bool {
    switch (a, b) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.number(let a), .number(let b)): a == b || Double(a) == Double(b)
    case (.string(let a), .string(let b)): a == b
    case (.array(let a), .array(let b)): a == b
    case (.object(let a), .object(let b)):
      a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
    default: false
    }
  }

  // MARK: Writing

  /// The text, objects and arrays of objects a line each.
  func serialized() -> [UInt8] {
    var bytes: [UInt8] = []
    append(to: &bytes, indent: 0)
    bytes.append(UInt8(ascii: "\n"))
    return bytes
  }

  private func append(to bytes: inout [UInt8], indent: Int) {
    func line(_ indent: Int) {
      bytes.append(UInt8(ascii: "\n"))
      bytes += [UInt8](repeating: UInt8(ascii: " "), count: 2 * indent)
    }
    switch self {
    case .null: bytes += Array("null".utf8)
    case .bool(let bool): bytes += Array((bool ? "true" : "false").utf8)
    case .number(let text): bytes += Array(text.utf8)
    case .string(let text): bytes += jsonString(text)
    case .array(let elements):
      bytes.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { bytes.append(UInt8(ascii: ",")) }
        line(indent + 1)
        element.append(to: &bytes, indent: indent + 1)
      }
      if !elements.isEmpty { line(indent) }
      bytes.append(UInt8(ascii: "]"))
    case .object(let entries):
      bytes.append(UInt8(ascii: "{"))
      for (index, entry) in entries.enumerated() {
        if index > 0 { bytes.append(UInt8(ascii: ",")) }
        line(indent + 1)
        bytes += jsonString(entry.key) + Array(": ".utf8)
        entry.value.append(to: &bytes, indent: indent + 1)
      }
      if !entries.isEmpty { line(indent) }
      bytes.append(UInt8(ascii: "}"))
    }
  }
}

/// A configuration file whose keys are read with their types; null counts as absent.
struct ConfigurationFile {
  let path: String
  let tree: JSONTree
  /// Where in the file `tree` stands, such as `rope_scaling.`.
  var prefix = ""

  func unsupported(_ key: String, _ problem: String, _ remedy: String) -> QuantError {
    QuantError(.unsupported, "\(path): \(prefix)\(key)", problem, remedy: remedy)
  }

  func invalid(_ key: String, _ problem: String) -> QuantError {
    QuantError(
      .invalidData, "\(path): \(prefix)\(key)", problem, remedy: "fetch the directory again")
  }

  func has(_ key: String) -> Bool { tree[key] != nil }

  /// Whether the key is there, if only with null.
  func states(_ key: String) -> Bool {
    guard case .object(let entries) = tree else { return false }
    return entries.contains { $0.key == key }
  }

  private func value<T>(
    _ key: String, _ kind: String, _ read: (JSONTree) -> T?
  ) throws(QuantError) -> T? {
    guard let found = tree[key] else { return nil }
    guard let value = read(found) else { throw invalid(key, "is no \(kind)") }
    return value
  }

  func integer(_ key: String) throws(QuantError) -> Int? {
    try value(key, "whole number") { $0.integer }
  }

  func double(_ key: String) throws(QuantError) -> Double? {
    guard let number = try value(key, "number", { $0.double }) else { return nil }
    guard number.isFinite else { throw invalid(key, "is not finite") }
    return number
  }

  func bool(_ key: String) throws(QuantError) -> Bool? { try value(key, "bool") { $0.bool } }

  func text(_ key: String) throws(QuantError) -> String? { try value(key, "string") { $0.text } }

  /// One integer or a list of them.
  func integers(_ key: String) throws(QuantError) -> [Int] {
    try value(key, "whole number or list of them") { found -> [Int]? in
      if let one = found.integer { return [one] }
      guard let elements = found.elements else { return nil }
      let all = elements.compactMap { $0.integer }
      return all.count == elements.count ? all : nil
    } ?? []
  }

  /// A key's object, or nil where there is none.
  func object(_ key: String) throws(QuantError) -> ConfigurationFile? {
    guard let found = tree[key] else { return nil }
    guard case .object = found else { throw invalid(key, "is no object") }
    return ConfigurationFile(path: path, tree: found, prefix: "\(prefix)\(key).")
  }
}
