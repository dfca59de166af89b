import DeviceModel
import QuantKernels

@testable import QuantKernelsTool

/// A cases file of any bytes is read or refused, and what is read has a cost.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  do throws(QuantError) {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    for item in try BankCase.list(bytes, path: "fuzz.json") {
      let cost = item.cost(.m1)
      precondition(cost.wavefronts >= 0 && cost.conflicts >= 0)
    }
  } catch {
    // A refusal says what, where and what to do.
    precondition(error.code == .invalidData)
    precondition(!error.problem.isEmpty && !error.subject.isEmpty && !error.remedy.isEmpty)
  }
  return 0
}
