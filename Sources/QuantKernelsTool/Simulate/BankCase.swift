import DeviceModel
import LanguageModel
import QuantKernels

/// One shared-memory access with the cost that is expected of it, as a cases file has it.
struct BankCase {
  let name: String
  let access: Access
  let expected: BankCost
  /// Hardware may differ: the case is shown and counted apart.
  let isUncertain: Bool

  /// What the bank rule gives for it.
  func cost(_ policy: BankPolicy) -> BankCost { bankCost(access, policy: policy) }

  /// Reads a cases file: an object whose `cases` are objects of `name`, `op` (`ld st ldmatrix stmatrix
  /// ldgsts`), `width_bytes`, `active_mask`, 32 `byte_addresses`, `expected_wavefronts`,
  /// `expected_conflicts` and, where it applies, `uncertain`. Other keys are passed over.
  ///
  /// - Throws: ``QuantError`` of code `invalidData` that names the case, the lane and the address.
  static func list(path: String) throws(QuantError) -> [BankCase] {
    let bytes = try readText(path)
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(QuantError) -> [BankCase] in try list(bytes, path: path) }
    }
    return try result.get()
  }

  /// The same of a file's bytes; errors call it `path`.
  static func list(
    _ bytes: UnsafeRawBufferPointer, path: String
  ) throws(QuantError) -> [BankCase] {
    var json = JSONCursor(bytes, file: path)
    var cases: [BankCase]?
    try json.expect("{")
    var firstKey = true
    while let key = try json.key(&firstKey) {
      guard key == "cases" else {
        try json.skipValue()
        continue
      }
      guard cases == nil else { throw invalid(path, "'cases' stands twice") }
      var list: [BankCase] = []
      var firstCase = true
      try json.expect("[")
      while try json.element(&firstCase) {
        try Interruption.check()
        list.append(try BankCase(&json, path: path, number: list.count))
      }
      cases = list
    }
    try json.expectEnd()
    guard let cases else { throw invalid(path, "there is no 'cases'") }
    return cases
  }

  private static func invalid(_ place: String, _ problem: String) -> QuantError {
    QuantError(
      .invalidData, place, problem, remedy: "correct the file; 'simulate banks --help' has the form"
    )
  }

  private init(
    _ json: inout JSONCursor, path: String, number: Int
  ) throws(QuantError) {
    var name: String?
    var operation: Access.Operation?
    var numbers: [String: Int] = [:]
    var addresses: [Int?]?
    var uncertain = false
    var place: String { "\(path) case \(number)\(name.map { " '\($0)'" } ?? "")" }
    var seen = Set<String>()
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      guard seen.insert(key).inserted else { throw Self.invalid(place, "'\(key)' stands twice") }
      switch key {
      case "name": name = try json.string()
      case "op":
        let text = try json.string()
        guard let known = Access.Operation(rawValue: text), known != .atomic else {
          throw Self.invalid(
            place, "op '\(text)' is none of ld, st, ldmatrix, stmatrix, ldgsts")
        }
        operation = known
      case "width_bytes", "active_mask", "expected_wavefronts", "expected_conflicts":
        guard let value = try json.sizeOrNil() else {
          throw Self.invalid(place, "'\(key)' is no whole number of 0 or more")
        }
        numbers[key] = value
      case "byte_addresses":
        var list: [Int?] = []
        var firstAddress = true
        try json.expect("[")
        while try json.element(&firstAddress) {
          guard list.count < 32 else {
            throw Self.invalid(place, "'byte_addresses' has more than 32 entries")
          }
          list.append(try json.sizeOrNil())
        }
        addresses = list
      case "uncertain": uncertain = try json.bool()
      default: try json.skipValue()
      }
    }
    func wanted(_ key: String) throws(QuantError) -> Int {
      guard let value = numbers[key] else { throw Self.invalid(place, "'\(key)' is missing") }
      return value
    }
    guard let name else { throw Self.invalid(place, "'name' is missing") }
    guard let operation else { throw Self.invalid(place, "'op' is missing") }
    guard let addresses else { throw Self.invalid(place, "'byte_addresses' is missing") }
    guard addresses.count == 32 else {
      throw Self.invalid(place, "'byte_addresses' has \(addresses.count) entries where 32 belong")
    }
    guard let bits = UInt32(exactly: try wanted("active_mask")) else {
      throw Self.invalid(place, "'active_mask' is wider than 32 lanes")
    }
    let mask = LaneMask(rawValue: bits)
    var lanes = Lanes<UInt32>()
    // Where a lane is inactive its address means nothing.
    for lane in 0..<32 where mask[lane] {
      guard let address = addresses[lane], let word = UInt32(exactly: address) else {
        throw Self.invalid(
          place, "lane \(lane) is active and its address is no whole number of 0 to 2³² − 1")
      }
      lanes[lane] = word
    }
    let width = try wanted("width_bytes")
    do throws(DeviceError) {
      access = try Access(operation, width: width, mask: mask, addresses: lanes)
    } catch {
      throw Self.invalid(place, "\(error.subject): \(error.problem)")
    }
    let wavefronts = try wanted("expected_wavefronts")
    let conflicts = try wanted("expected_conflicts")
    let (ideal, overflow) = wavefronts.subtractingReportingOverflow(conflicts)
    guard !overflow, ideal >= 0 else {
      throw Self.invalid(place, "more conflicts than wavefronts are expected")
    }
    self.name = name
    expected = BankCost(wavefronts: wavefronts, ideal: ideal)
    isUncertain = uncertain
  }
}
