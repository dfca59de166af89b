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

      Devices: \(DeviceSpec.all.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels devices
        quantkernels devices a100-80
        quantkernels devices --json
      """)

  @OptionGroup var common: CommonOptions

  @Argument(help: ArgumentHelp("One device.", valueName: "device"))
  var device: String?

  func run() throws {
    let devices = try device.map { [try simulatedDevice($0)] } ?? DeviceSpec.all
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
      padded("device", 10, left: true) + padded("name", 22, left: true)
        + "   SMs  clock GHz  memory GB/s  fp16 TFLOP/s  recalled or assumed"
    ]
    for device in DeviceSpec.all {
      let uncertain = device.numbers.count { $0.number.provenance.isUncertain }
      lines.append(
        padded(device.identifier, 10, left: true) + padded(device.name, 22, left: true)
          + padded(fixed(device.multiprocessors.value, 0), 6)
          + padded(fixed(device.boostClock.value, 2), 11)
          + padded(fixed(device.dramPeak.value, 0), 13)
          + padded(fixed(device.float16Peak.value, 1), 14)
          + padded("\(uncertain) of \(device.numbers.count)", 21))
    }
    return lines.joined(separator: "\n")
  }

  private static func sheet(_ device: DeviceSpec) -> String {
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
