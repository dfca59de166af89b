@testable import QuantKernelsTool

/// Arguments of any bytes, one a line, and cases files of any bytes: both are read or refused.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard count > 0, let start else { return 0 }
  let rest = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
  if start[0] & 1 == 0 {
    let arguments = rest.split(separator: 10, omittingEmptySubsequences: false).map {
      String(decoding: $0, as: UTF8.self)
    }
    // Read, not run: running would open what the arguments name.
    _ = try? QuantKernelsTool.parseAsRoot(arguments)
  } else {
    for item in (try? BankCase.list(rest, path: "fuzz.json")) ?? [] {
      let cost = item.cost(.m1)
      precondition(cost.wavefronts >= 0 && cost.conflicts >= 0)
    }
  }
  return 0
}
