import QuantKernels

/// Packed weights whose products `bench matmul` times.
protocol MeasuredWeights {
  var rows: Int { get }
  var columns: Int { get }
  var byteCount: Int { get }
  var typeName: String { get }
  func kernelName(count: Int, arithmetic: Arithmetic) -> String
  func copied() throws(QuantError) -> Self
  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError)
}

extension PackedWeights: MeasuredWeights {
  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    try multiply(
      x, count: count, into: y, outputStride: outputStride, outputs: nil, arithmetic: arithmetic,
      workspace: workspace, pool: pool)
  }
}

/// Ternary products have one arithmetic, that of the model's training.
extension PackedTernary: MeasuredWeights {
  var typeName: String { format.rawValue }

  func kernelName(count: Int, arithmetic: Arithmetic) -> String { kernelName(count: count) }

  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    try multiply(
      x, count: count, into: y, outputStride: outputStride, workspace: workspace, pool: pool)
  }
}
