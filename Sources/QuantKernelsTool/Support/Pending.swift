import QuantKernels
import Synchronization

final class CancellationFlag: Sendable {
  private let flag = Atomic<Bool>(false)
  func cancel() { flag.store(true, ordering: .relaxed) }
  var isCancelled: Bool { flag.load(ordering: .relaxed) }
}
/// The level that `--isa` names.
///
/// - Throws: ``QuantError`` for a name that is unknown (64) or that this processor does not run (69).
func chosenInstructionSet(_ name: String) throws(QuantError) -> InstructionSet {
  let names = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
  guard let level = InstructionSet(rawValue: name) else {
    throw QuantError(
      .invalidArgument, "--isa \(name)", "no such level", remedy: "choose one of \(names)")
  }
  guard level.isSupported else {
    throw QuantError(
      .unsupported, "--isa \(name)", "this processor does not run it",
      remedy: "choose one of \(names)")
  }
  return level
}
