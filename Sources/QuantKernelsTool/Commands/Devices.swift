import ArgumentParser
import DeviceModel
import QuantKernels

/// `devices`: the catalog of simulated devices, every number with its source.
struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The simulated devices; every number with where it comes from.",
    discussion: """
      Without a name the list, with one all of a device's numbers. What is only recalled or assumed \
      is marked so.

      Devices: \(CatalogDevice.all.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels devices
        quantkernels devices a100-80
        quantkernels devices --json
      """)

  @OptionGroup var common: CommonOptions

  @Argument(help: ArgumentHelp("One device.", valueName: "device"))
  var device: String?

  func run() throws {
    let devices = try device.map { [try CatalogDevice.named($0)] } ?? CatalogDevice.all
    let json: JSON = [
      "devices": .array(
        devices.map { device in
          [
            "identifier": .string(device.identifier), "name": .string(device.name),
            "numbers": .array(
              device.numbers.map { entry in
                [
                  "name": .string(entry.label), "value": JSON(entry.number.value),
                  "unit": .string(entry.unit),
                  "kind": .string(entry.number.provenance.kind),
                  "source": .string(entry.number.provenance.source),
                ]
              }),
          ]
        })
    ]
    common.finish(json, text: device == nil ? Self.list : devices.map(Self.sheet).joined())
  }

  private static var list: String {
    var lines = [
      padded("device", 12, left: true) + padded("name", 27, left: true)
        + " cores  clock GHz  memory GB/s  fp16 TFLOP/s  recalled or assumed"
    ]
    for device in CatalogDevice.all {
      let uncertain = device.numbers.count { $0.number.provenance.isUncertain }
      lines.append(
        padded(device.identifier, 12, left: true) + padded(device.name, 27, left: true)
          + padded(fixed(device.cores.value, 0), 6)
          + padded(fixed(device.clock.value, 2), 11)
          + padded(fixed(device.memoryRate.value, 0), 13)
          + padded(fixed(device.float16Peak.value, 1), 14)
          + padded("\(uncertain) of \(device.numbers.count)", 21))
    }
    return lines.joined(separator: "\n")
  }

  private static func sheet(_ device: CatalogDevice) -> String {
    var lines = ["\(device.identifier): \(device.name)"]
    for (label, unit, number) in device.numbers {
      lines.append(
        "  " + padded(label, 32, left: true) + padded("\(number.value)", 12)
          + " " + padded(unit, 20, left: true) + number.provenance.kind + ": "
          + number.provenance.source)
    }
    return lines.joined(separator: "\n")
  }
}

/// A device of the catalog, GPU, NPU or machine of several, as `devices` shows it.
struct CatalogDevice {
  let identifier: String
  let name: String
  /// Multiprocessors or AI cores.
  let cores: Sourced
  /// GHz.
  let clock: Sourced
  /// GB/s.
  let memoryRate: Sourced
  /// TFLOP/s.
  let float16Peak: Sourced
  let numbers: [(label: String, unit: String, number: Sourced)]

  init(_ spec: DeviceSpec) {
    identifier = spec.identifier
    name = spec.name
    cores = spec.multiprocessors
    clock = spec.boostClock
    memoryRate = spec.dramPeak
    float16Peak = spec.float16Peak
    numbers = spec.numbers
  }

  init(_ spec: NPUSpec) {
    identifier = spec.identifier
    name = spec.name
    cores = spec.cores
    clock = spec.clock
    memoryRate = spec.memoryRate
    float16Peak = spec.float16Peak
    numbers = spec.numbers
  }

  /// A machine: its links, and the numbers of one of its devices.
  init(_ machine: MultiDeviceMachine) {
    identifier = machine.identifier
    name = machine.name
    cores = machine.device.multiprocessors
    clock = machine.device.boostClock
    memoryRate = machine.device.dramPeak
    float16Peak = machine.device.float16Peak
    numbers = machine.numbers + machine.device.numbers
  }

  static let all =
    DeviceSpec.all.map(CatalogDevice.init) + NPUSpec.all.map(CatalogDevice.init)
    + MultiDeviceMachine.all.map(CatalogDevice.init)

  /// - Throws: ``QuantError`` of code `invalidArgument` that lists the known ones.
  static func named(_ identifier: String) throws(QuantError) -> CatalogDevice {
    if let device = all.first(where: { $0.identifier == identifier }) { return device }
    throw QuantError(
      .invalidArgument, "device \"\(identifier)\"", "not in the catalog",
      remedy: "use one of " + all.map(\.identifier).joined(separator: ", "))
  }
}

/// The device of a `--device` option.
///
/// - Throws: ``QuantError`` of code `invalidArgument` that lists the known ones.
func simulatedDevice(_ identifier: String) throws(QuantError) -> DeviceSpec {
  do throws(DeviceError) {
    return try DeviceSpec.named(identifier)
  } catch {
    throw QuantError(error)
  }
}
