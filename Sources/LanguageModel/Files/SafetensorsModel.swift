import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The tensors of a model that lies in one safetensors file or in several, joined by an index.
///
/// The index is `model.safetensors.index.json`, as Hugging Face libraries write it: `weight_map`
/// names the file of each tensor.
public final class SafetensorsModel: Sendable {
  /// No published model comes near; each file takes a mapping.
  static let maximumFiles = 4096

  /// The files, in the order in which the index first names them.
  public let files: [SafetensorsFile]
  /// All tensors, file by file.
  public let tensors: [SafetensorsTensor]
  /// Which file each tensor is in.
  private let fileNumbers: [UInt16]
  private let index: NameIndex

  /// Opens a model.
  ///
  /// - Parameter path: a `.safetensors` file; an index (`.json`); or a folder that holds
  ///   `model.safetensors.index.json` or `model.safetensors`.
  /// - Throws: as ``SafetensorsFile``, and `invalidData` for an index that is no JSON, names a file
  ///   outside its folder or a tensor that its file lacks, and for a name in two files.
  public convenience init(path: String) throws(QuantError) {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
      let index = path + "/model.safetensors.index.json"
      if stat(index, &status) == 0 {
        try self.init(indexPath: index)
      } else {
        try self.init(path: path, files: [SafetensorsFile(path: path + "/model.safetensors")])
      }
    } else if path.hasSuffix(".json") {
      try self.init(indexPath: path)
    } else {
      try self.init(path: path, files: [SafetensorsFile(path: path)])
    }
  }

  private convenience init(indexPath: String) throws(QuantError) {
    let json = try MappedFile(path: indexPath)
    let folder = indexPath.lastIndex(of: "/").map { String(indexPath[...$0]) } ?? ""
    var names: [String] = []
    var numbers: [String: Int] = [:]
    try SafetensorsModel.walk(json) { _, file throws(QuantError) in
      if numbers[file] != nil { return }
      guard !file.isEmpty, !file.utf8.contains(UInt8(ascii: "/")), file != "..", file != "." else {
        throw QuantError(
          .invalidData, indexPath, "names the file \(quoted(file)), which is not in its folder",
          remedy: "fetch the index again")
      }
      guard names.count < SafetensorsModel.maximumFiles else {
        throw QuantError(
          .unsupported, indexPath, "names more than \(SafetensorsModel.maximumFiles) files",
          remedy: "join the files")
      }
      numbers[file] = names.count
      names.append(file)
    }
    var files: [SafetensorsFile] = []
    for name in names { files.append(try SafetensorsFile(path: folder + name)) }
    try SafetensorsModel.walk(json) { tensor, file throws(QuantError) in
      guard let number = numbers[file], files[number].tensor(named: tensor) != nil else {
        throw QuantError(
          .invalidData, indexPath,
          "places tensor \(quoted(tensor)) in \(quoted(file)), which lacks it",
          remedy: "fetch the index and the files again")
      }
    }
    try self.init(path: indexPath, files: files)
  }

  private init(path: String, files: [SafetensorsFile]) throws(QuantError) {
    var tensors: [SafetensorsTensor] = []
    var numbers: [UInt16] = []
    for (number, file) in files.enumerated() {
      tensors += file.tensors
      numbers += [UInt16](repeating: UInt16(number), count: file.tensors.count)
    }
    let all = tensors
    guard all.count < Int(UInt32.max) else {
      throw QuantError(.unsupported, path, "has \(all.count) tensors", remedy: "split the model")
    }
    index = NameIndex(all.count) { all[$0].name }
    if let name = index.duplicate(name: { all[$0].name }) {
      throw QuantError(
        .invalidData, path, "tensor \(quoted(name)) is in two files",
        remedy: "fetch the files again")
    }
    self.files = files
    self.tensors = all
    fileNumbers = numbers
  }

  /// The tensor of that name, or nil. O(log tensors).
  public func tensor(named name: String) -> SafetensorsTensor? {
    index.find(name) { tensors[$0].name }.map { tensors[$0] }
  }

  /// The tensor of that name and the number of its file, or nil. O(log tensors).
  func place(of name: String) -> (tensor: SafetensorsTensor, file: Int)? {
    index.find(name) { tensors[$0].name }.map { (tensors[$0], Int(fileNumbers[$0])) }
  }

  /// The bytes of one of this model's tensors, found by its name; valid while this object lives.
  /// Empty for a tensor of another model.
  public func bytes(of tensor: SafetensorsTensor) -> UnsafeRawBufferPointer {
    guard let place = index.find(tensor.name, name: { tensors[$0].name }), tensors[place] == tensor
    else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return files[Int(fileNumbers[place])].bytes(of: tensor)
  }

  /// Calls `body` with the bytes of one of this model's tensors, and keeps them mapped until it
  /// returns.
  ///
  /// ``bytes(of:)`` gives a pointer that does not keep this object alive, which may go right after
  /// its last use in the source.
  ///
  /// - Throws: what `body` throws.
  public func withBytes<R, E: Error>(
    of tensor: SafetensorsTensor, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try withExtendedLifetime(self) { () throws(E) -> R in try body(bytes(of: tensor)) }
  }

  /// Calls `body` with each tensor's name and its file's, in the index's order.
  private static func walk(
    _ index: MappedFile, _ body: (String, String) throws(QuantError) -> Void
  ) throws(QuantError) {
    defer { withExtendedLifetime(index) {} }
    var json = JSONCursor(index.bytes, file: index.path)
    var found = false
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      guard key == "weight_map" else {
        try json.skipValue()
        continue
      }
      guard !found else { throw json.error("'weight_map' appears twice") }
      found = true
      try json.expect("{")
      var firstTensor = true
      while let tensor = try json.key(&firstTensor) { try body(tensor, try json.string()) }
    }
    try json.expectEnd()
    guard found else { throw json.error("the index has no 'weight_map'") }
  }
}
