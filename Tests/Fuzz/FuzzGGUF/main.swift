import CLibFuzzer

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// `seeds=FOLDER` writes a first corpus there.
if CommandLine.arguments.count == 2, CommandLine.arguments[1].hasPrefix("seeds=") {
  try writeSeeds(into: String(CommandLine.arguments[1].dropFirst("seeds=".count)))
} else {
  var count = CommandLine.argc
  var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
  exit(LLVMFuzzerRunDriver(&count, &arguments) { test($0, $1) })
}
