import DeviceModel
import QuantKernels

/// All that `reproduce` finds: simulated and measured, by paper.
struct Reproduction {
  let results: [PaperResult]
  /// Figures of this processor that belong to no paper.
  let machineFigures: [Figure]
  /// The limits that were measured on the way; empty where nothing was.
  let limits: LimitSamples

  /// The papers in full.
  ///
  /// - Parameters:
  ///   - only: one paper, or all of them.
  ///   - threads: processors to use.
  ///   - drawsFigures: whether figures are wanted, and what only they need is measured.
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  init(only: Paper?, threads: Int, drawsFigures: Bool) throws(QuantError) {
    let processor = ProcessorMeasurements(threads: threads, seconds: drawsFigures ? 1 : 0.4)
    var results: [PaperResult] = []
    for paper in Paper.allCases where only ?? paper == paper {
      try Interruption.check()
      results.append(try Self.result(paper, processor, drawsFigures: drawsFigures))
    }
    self.results = results
    machineFigures = drawsFigures && only == nil ? [try processor.rooflineFigure()] : []
    limits = processor.samples
  }

  private static func result(
    _ paper: Paper, _ processor: ProcessorMeasurements, drawsFigures: Bool
  ) throws(QuantError) -> PaperResult {
    let threads = processor.threads
    var figures: [Figure] = []
    let claims: [Claim]
    switch paper {
    case .quick:
      let found = try QuickReproduction(threads: threads)
      claims = found.claims + (try processor.quickClaims())
      if drawsFigures { figures = [try processor.batchFigure()] + found.figures }
    case .tpAware:
      let found = try TensorParallelReproduction(threads: threads)
      claims = found.claims
      if drawsFigures { figures = [found.figure] }
    case .bitnet:
      claims =
        try BitNetReproduction(threads: threads).claims + (try processor.bitnetClaims())
      if drawsFigures { figures = [try processor.bitsFigure()] }
    case .palu:
      let found = try PaluReproduction(threads: threads)
      claims = found.claims + (try processor.paluClaims())
      if drawsFigures {
        figures = [
          found.lengthFigure,
          PaluReproduction.bitsFigure(try PaluReproduction.byBits(threads: threads)),
          try processor.lengthFigure(),
        ]
      }
    case .fastAttention:
      let devices = try CooperationReproduction()
      let volta = try VoltaReproduction(threads: threads)
      let npu = try NPUAttentionReproduction()
      claims =
        npu.claims + volta.claims + devices.claims + (try processor.fastAttentionClaims())
      if drawsFigures {
        figures = [npu.figure, volta.figure, try processor.promptFigure()]
      }
    }
    return PaperResult(paper: paper, claims: claims, figures: figures)
  }

  /// One or two headlines of each paper, in seconds.
  ///
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  init(shortOf only: Paper?, threads: Int) throws(QuantError) {
    let processor = ProcessorMeasurements(threads: threads, seconds: 0.3)
    var results: [PaperResult] = []
    for paper in Paper.allCases where only ?? paper == paper {
      try Interruption.check()
      let claims: [Claim] =
        switch paper {
        case .quick: try QuickReproduction.short(threads: threads)
        case .tpAware: try TensorParallelReproduction.short()
        case .bitnet: try BitNetReproduction.short() + processor.shortBitnetClaims()
        case .palu: try PaluReproduction.short(threads: threads)
        case .fastAttention:
          try NPUAttentionReproduction.short() + VoltaReproduction.short(threads: threads)
        }
      results.append(PaperResult(paper: paper, claims: claims))
    }
    self.results = results
    machineFigures = []
    limits = processor.samples
  }

  /// The page, in the words of the command that made it.
  func page(command: String, threads: Int, seconds: Double) -> ReportPage {
    ReportPage(
      machine: ReportPage.Machine(
        processor: MachineName.processor, threads: threads,
        instructionSet: InstructionSet.best.rawValue, date: MachineName.date,
        version: QuantKernelsTool.version,
        limits: Self.shown(limits), seconds: seconds),
      results: results, machineFigures: machineFigures, command: command)
  }

  private static func shown(_ samples: LimitSamples) -> [(name: String, value: String)] {
    guard !samples.read.samples.isEmpty else { return [] }
    return [
      ("read bandwidth", samples.read.text() + " GB/s"),
      ("int8 dot peak", samples.int8.text() + " GMAC/s"),
      ("bfloat16 peak", samples.bfloat16.text() + " GFLOP/s"),
      ("float32 peak", samples.float32.text() + " GFLOP/s"),
    ]
  }
}
