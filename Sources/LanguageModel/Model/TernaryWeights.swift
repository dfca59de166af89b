import QuantKernels

/// How a model's ternary matrices are held, chosen once when it is loaded.
///
/// A matrix of TQ1_0, TQ2_0 or I2_S is ternary when each of its rows has one scale; its products are
/// then BitNet b1.58's, with exact integer sums. One that is not (a model of other weights, rounded
/// to TQ2_0 block by block) goes the way of int4 matrices.
public struct TernaryWeights: Sendable, Equatable {
  /// The format of the kernels.
  public let format: PackedTernary.Format
  /// Why: what was measured, or that the caller named it.
  public let reason: String

  /// Types whose matrices may be ternary.
  private static let types: Set<GGMLType> = [.i2_s, .tq1_0, .tq2_0]

  static func mayBeTernary(_ tensor: GGUFTensor) -> Bool {
    tensor.isTernary || tensor.type.map(types.contains) ?? false
  }

  /// Whether a matrix has one scale for all rows, as I2_S and native ones do: float products hold
  /// it as float32.
  static func hasOneScale(_ tensor: GGUFTensor) -> Bool {
    tensor.isTernary || tensor.type == .i2_s
  }

  /// The format that the caller names, else the one that reads faster from memory with these
  /// threads; 2 bits where all weights stay in the cache, or none are ternary.
  ///
  /// - Parameter weightCount: elements of the matrices that may be ternary.
  init(
    named: PackedTernary.Format?, weightCount: Int, instructionSet: InstructionSet,
    pool: WorkerPool
  ) throws(QuantError) {
    if let named {
      format = named
      reason = "as asked"
    } else if weightCount / 4 <= CacheSizes.lastLevel {
      format = .twoBit
      reason = "the weights fit the cache"
    } else {
      let choice = try TernaryFormatChoice.measured(instructionSet: instructionSet, pool: pool)
      format = choice.format
      reason = choice.reason
    }
  }

  /// The matrices of a layer as one, or nil when one of them is not ternary.
  ///
  /// - Throws: `QuantError` `.invalidData` for codes or scales that are none.
  static func matrix(
    _ members: ArraySlice<StackedLinear.Member>, columns: Int, file: GGUFFile, order: I2SOrder
  ) throws(QuantError) -> TernaryMatrix? {
    var parts: [TernaryMatrix] = []
    for member in members {
      guard var part = try matrix(member.tensor, columns: columns, file: file, order: order) else {
        return nil
      }
      if let scale = member.scale { part = try part.scaled(by: scale) }
      parts.append(part)
    }
    return try TernaryMatrix(stacking: parts)
  }

  /// One tensor's matrix, or nil when it is not ternary.
  static func matrix(
    _ tensor: GGUFTensor, columns: Int, file: GGUFFile, order: I2SOrder
  ) throws(QuantError) -> TernaryMatrix? {
    if let directory = file.directory, tensor.isTernary {
      return try directory.ternaryMatrix(tensor, bytes: file.bytes(of: tensor))
    }
    let format: TernaryFormat
    switch tensor.type {
    case _ where tensor.isTernary: format = .fiveTrits
    case .i2_s: format = .i2s(order)
    case .tq1_0: format = .tq1_0
    case .tq2_0: format = .tq2_0
    default: return nil
    }
    do throws(QuantError) {
      return try TernaryMatrix(
        format, bytes: file.bytes(of: tensor), rows: tensor.rows, columns: columns)
    } catch {
      // Blocks of a row with different scales: no ternary matrix, and none of I2_S.
      if error.code == .unsupported, tensor.type == .tq1_0 || tensor.type == .tq2_0 {
        return nil
      }
      throw QuantError(
        error.code, "\(tensor.name), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }
}
