// What mpirun starts to hold ranks that are processes against ranks that are threads. Each process runs
// the same on threads of its own and compares bits; `Tests/MPI/run.sh` calls it.
//
//   MPIRanks collectives | schemes          compare, and print one line
//   MPIRanks logits MODEL [INT4]            the same of a whole model
//   MPIRanks broken HOW                     rank 1 goes wrong; all end with one error
//   MPIRanks model FILE [SEED]              write a model with 8 heads of keys and values (no mpirun)

import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

#if MPI
  import MPICommunicator
#endif

struct Difference: Error, CustomStringConvertible {
  let description: String
}

/// - Throws: ``Difference`` unless `condition` holds.
func require(_ condition: Bool, _ text: @autoclosure () -> String) throws {
  if !condition { throw Difference(description: text()) }
}

func write(_ text: String, to stream: Int32) {
  Array((text + "\n").utf8).withUnsafeBytes { _ = write(stream, $0.baseAddress, $0.count) }
}

let arguments = Array(CommandLine.arguments.dropFirst())

if arguments.first == "model", arguments.count > 1 {
  do {
    try writeModel(arguments[1], seed: arguments.count > 2 ? UInt64(arguments[2]) ?? 1 : 1)
    exit(0)
  } catch {
    write("error: \(error)", to: STDERR_FILENO)
    exit(1)
  }
}

#if MPI
  var speaker: MPICommunicator?
  do {
    // Short limits, so that pieces and silence are met in a test.
    let text = try MPICommunicator.run(
      silenceLimit: 3, longestPiece: arguments.first == "collectives" ? 50_000 : 1 << 30
    ) { communicator in
      speaker = communicator
      switch arguments.first {
      case "collectives": return try compareCollectives(communicator)
      case "schemes": return try compareSchemes(communicator)
      case "logits" where arguments.count > 1:
        return try compareLogits(
          communicator, model: arguments[1], int4: arguments.count > 2 ? arguments[2] : nil)
      case "broken" where arguments.count > 1:
        return try goWrong(communicator, arguments[1])
      default:
        throw QuantError(
          .invalidArgument, "arguments", "\(arguments)", remedy: "see the head of main.swift")
      }
    }
    if speaker?.rank == 0 { write("ok: \(text)", to: STDOUT_FILENO) }
    // A process may run several works.
    let sum = try MPICommunicator.run { communicator in
      var one: [Float] = [1]
      try one.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      return one[0]
    }
    exit(Int(sum) == speaker?.ranks ? 0 : 1)
  } catch {
    speaker?.report { write("error: \(error)", to: STDERR_FILENO) }
    exit(65)
  }
#else
  write("error: MPIRanks: MPI is not built in; build with --traits MPI", to: STDERR_FILENO)
  exit(69)
#endif
