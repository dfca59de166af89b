extension DeviceSpec {
  /// Every device, in the order of the command line's help.
  public static let all: [DeviceSpec] = [
    .v100, .a100x40, .a100x80, .a6000, .rtx4090, .l40, .h100, .h200,
  ]

  /// The device of that identifier.
  ///
  /// - Throws: ``DeviceError`` with `.unknownDevice`, naming the known ones.
  public static func named(_ identifier: String) throws(DeviceError) -> DeviceSpec {
    if let spec = all.first(where: { $0.identifier == identifier }) { return spec }
    throw DeviceError(
      .unknownDevice, "device \"\(identifier)\"", "not in the catalog",
      remedy: "use one of " + all.map(\.identifier).joined(separator: ", "))
  }
}

extension LatencyBound {
  /// Layer 2 with one constant a device, fitted on M ≤ 32 of QUICK's published table (times of AWQ
  /// and QUICK, M × 8192 × 8192; least mean |log error| on a grid of 0.1, at least 1).
  public static let fitted = LatencyBound(latencyFactors: [
    "rtx4090": FittedConstant(3.1, fittedOn: fittedCells),
    "a6000": FittedConstant(1.0, fittedOn: fittedCells),
    "l40": FittedConstant(2.7, fittedOn: fittedCells),
    "a100-80": FittedConstant(2.2, fittedOn: fittedCells),
  ])

  static let fittedCells = "AWQ and QUICK times at M = 1, 4, 8, 16, 32 (SqueezeBits/QUICK README)"
}
