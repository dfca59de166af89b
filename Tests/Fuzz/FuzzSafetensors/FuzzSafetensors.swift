import LanguageModel
import QuantKernels

/// A safetensors file of any bytes, and the same as factors of a low-rank cache.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: start, count: count))
  do throws(QuantError) {
    let file = try SafetensorsFile(bytes: bytes, name: "fuzz.safetensors")
    for tensor in file.tensors {
      let own = file.bytes(of: tensor)
      precondition(own.count == tensor.byteCount)
      var sum: UInt8 = 0
      for byte in own { sum &+= byte }
      precondition(sum == sum)
    }
    _ = try LowRankFactorsFile(file: file)
  } catch {
    precondition(!error.problem.isEmpty && !error.subject.isEmpty && !error.remedy.isEmpty)
  }
  return 0
}
