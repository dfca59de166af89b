import DeviceModel

/// Modelled times of a causal attention layer and its output projection on G devices that share the
/// heads: the jobs of `OverlapPlanner`.
public struct AttentionLayerTime: Sendable {
  /// The whole layer.
  public var layer: AttentionShard.Layer
  /// Keys before the first row.
  public var firstPosition: Int
  /// Bytes of an element.
  public var elementBytes: Int
  /// A device.
  public var device: AcceleratorRate
  /// How partial sums are added up.
  public var collective: Collective

  /// A layer on a machine.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that are not positive, a negative first
  ///   position, and devices that do not divide the query heads.
  public init(
    layer: AttentionShard.Layer, firstPosition: Int = 0, elementBytes: Int = 2,
    device: AcceleratorRate, collective: Collective
  ) throws(QuantError) {
    let devices = collective.topology.devices
    guard layer.heads >= 1, layer.keyValueHeads >= 1, layer.headDimension >= 1, layer.width >= 1,
      layer.heads % devices == 0, firstPosition >= 0, firstPosition <= 1 << 40, elementBytes >= 1,
      elementBytes <= 8
    else {
      throw QuantError(
        .invalidArgument, "times of an attention layer",
        "\(layer.heads) and \(layer.keyValueHeads) heads of \(layer.headDimension) on \(devices) "
          + "devices, \(layer.width) outputs, after \(firstPosition) keys, \(elementBytes) bytes",
        remedy: "use positive sizes, query heads a multiple of the devices")
    }
    self.layer = layer
    self.firstPosition = firstPosition
    self.elementBytes = elementBytes
    self.device = device
    self.collective = collective
  }

  /// Multiply-adds of one device's share of these rows, times 2.
  public func flop(rows: Range<Int>) -> Double {
    let count = Double(rows.count)
    // Row r sees firstPosition + r + 1 keys.
    let seen =
      count * Double(firstPosition)
      + count * (Double(rows.lowerBound) + Double(rows.upperBound) + 1) / 2
    let columns =
      Double(layer.heads) * Double(layer.headDimension) / Double(collective.topology.devices)
    return 4 * columns * seen + 2 * count * columns * Double(layer.width)
  }

  /// Bytes of one device's share: queries, the keys and values that the last row sees, weights of
  /// the projection, and outputs, each once.
  public func bytes(rows: Range<Int>) -> Double {
    let devices = Double(collective.topology.devices)
    let columns = Double(layer.heads) * Double(layer.headDimension) / devices
    // A head that devices share is on each of them.
    let keyValueHeads = (Double(layer.keyValueHeads) / devices).rounded(.up)
    let keys = Double(firstPosition) + Double(rows.upperBound)
    let floats =
      Double(rows.count) * (2 * columns + Double(layer.width))
      + 2 * keys * keyValueHeads * Double(layer.headDimension) + columns * Double(layer.width)
    return floats * Double(elementBytes)
  }

  /// A chunk's times: two kernels, and the all-reduce of its rows; nothing for no rows.
  ///
  /// - Throws: `DeviceError` as `Collective.allReduceMicroseconds(bytes:)`.
  public func job(rows: Range<Int>) throws(DeviceError) -> FlowShop.Job {
    if rows.isEmpty { return FlowShop.Job(compute: 0, communicate: 0) }
    return FlowShop.Job(
      compute: device.microseconds(flop: flop(rows: rows), bytes: bytes(rows: rows), launches: 2),
      communicate: try collective.allReduceMicroseconds(
        bytes: Double(rows.count) * Double(layer.width) * Double(elementBytes)))
  }

  /// The best cut of `rows` rows.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` as `OverlapPlanner`.
  public func plan(
    rows: Int, planner: OverlapPlanner = OverlapPlanner()
  ) throws(QuantError) -> OverlapPlan {
    do throws(DeviceError) {
      return try planner.best(rows: rows) { rows throws(DeviceError) in try job(rows: rows) }
    } catch {
      throw QuantError(error)
    }
  }

  /// The times of the same rows cut into given chunks.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for chunks that are not the rows.
  public func plan(rows: Int, chunks: [Range<Int>]) throws(QuantError) -> OverlapPlan {
    do throws(DeviceError) {
      return try OverlapPlanner().plan(rows: rows, chunks: chunks) { rows throws(DeviceError) in
        try job(rows: rows)
      }
    } catch {
      throw QuantError(error)
    }
  }
}
