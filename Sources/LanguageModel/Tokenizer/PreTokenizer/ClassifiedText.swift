/// Text as the splitters see it: code points, their classes, and the end of the piece in hand.
///
/// Reading at or past `end` gives `outside` and no class, so scanners need no bounds of their own.
struct ClassifiedText {
  /// Stands for "no code point".
  static let outside = UInt32.max

  let codePoints: UnsafeBufferPointer<UInt32>
  let classes: UnsafeBufferPointer<CharacterClass>
  /// Where the current piece ends.
  var end: Int

  @inline(__always)
  func code(_ index: Int) -> UInt32 {
    index < end ? codePoints[index] : ClassifiedText.outside
  }

  @inline(__always)
  func characterClass(_ index: Int) -> CharacterClass {
    index < end ? classes[index] : []
  }

  @inline(__always)
  func has(_ index: Int, _ wanted: CharacterClass) -> Bool {
    index < end && !classes[index].isDisjoint(with: wanted)
  }

  /// Whether there is a code point at `index` outside all of `unwanted`.
  @inline(__always)
  func lacks(_ index: Int, _ unwanted: CharacterClass) -> Bool {
    index < end && classes[index].isDisjoint(with: unwanted)
  }

  @inline(__always)
  func isNewline(_ index: Int) -> Bool {
    let code = code(index)
    return code == 0x0A || code == 0x0D
  }

  @inline(__always)
  func contains(_ index: Int, in set: CodePointSet) -> Bool {
    index < end && set.contains(codePoints[index], classes[index])
  }

  /// The first index at or after `index` that is not of `wanted`.
  @inline(__always)
  func endOfRun(_ index: Int, of wanted: CharacterClass) -> Int {
    var index = index
    while has(index, wanted) { index += 1 }
    return index
  }
}
