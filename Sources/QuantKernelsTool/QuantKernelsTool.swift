import ArgumentParser
import QuantKernels

/// The command line `quantkernels`. Its commands, keys of `--json` and exit codes are stable:
/// scripts rely on them.
#if !FUZZING  // a fuzzer has a main of its own
  @main
#endif
struct QuantKernelsTool: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "quantkernels",
    abstract: "Quantized language models on this machine's processor.",
    discussion: """
      EXAMPLES
        quantkernels generate --model model.gguf --prompt "What is a byte?" -n 64
        quantkernels perplexity --model model.gguf --text corpus.txt --chunks 20
        quantkernels bench machine --json
        quantkernels bench matmul --format int4 --m 512 --n 4096 --k 4096 --group 128

      EXIT CODES
        0 done, 64 bad usage, 65 bad data, 66 missing file, 69 not built in or not available here,
        70 our own fault, 130 interrupted
      """,
    version: version,
    subcommands: [
      Generate.self, PerplexityCommand.self, Tokenize.self, Inspect.self, Convert.self,
      CalibrateKeysAndValues.self, Bench.self,
      Simulate.self, Devices.self, Reproduce.self,
      Synthesize.self, ExactMatchCommand.self,
    ])

  static func main() {
    Console.reserveStandardStreams()
    Interruption.install()
    exitTool(
      ProcessRanks.run {
        var command = try parseAsRoot()
        try ProcessRanks.check(command)
        try command.run()
        Console.flush()
        try Console.checkOutput()
      })
  }
}

/// Groups the measuring commands.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure this machine, a model, a matrix product or an attention.",
    discussion: """
      EXAMPLES
        quantkernels bench machine
        quantkernels bench model --model model.gguf -p 512 -n 128
        quantkernels bench matmul --format int4 --m 512 --n 4096 --k 4096 --group 128
      """,
    subcommands: [
      BenchMachine.self, BenchModel.self, BenchMatmul.self, BenchAttention.self,
      BenchTensorParallel.self, BenchLowRank.self, BenchLatentAttention.self,
    ])
}
