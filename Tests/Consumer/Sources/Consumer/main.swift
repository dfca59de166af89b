import QuantKernels

// Quantizes a matrix, multiplies by it, and compares with the product of the values that its codes
// stand for.
let (rows, columns) = (48, 256)
let values = (0..<rows * columns).map { Float(($0 * 37) % 101) / 50 - 1 }
let input = (0..<2 * columns).map { Float(($0 * 17) % 29) / 14 - 1 }
let matrix = try Int4Matrix(quantizing: values, rows: rows, columns: columns, groupSize: 64)
let weights = matrix.dequantized()

for arithmetic in Arithmetic.allCases {
  let output = try matrix.matmul(input, arithmetic: arithmetic)
  for token in 0..<2 {
    for row in 0..<rows {
      var wanted = 0.0
      var magnitude = 0.0
      for column in 0..<columns {
        let product =
          Double(input[token * columns + column]) * Double(weights[row * columns + column])
        wanted += product
        magnitude += abs(product)
      }
      // Activations of eight bits err by 1/254 of their largest; float32 sums by 256 roundings.
      let bound = magnitude * (arithmetic == .fast ? 0.02 : 256 * 0x1p-24)
      guard abs(Double(output[token * rows + row]) - wanted) <= bound else {
        throw QuantError(
          .invalidData, "consumer", "row \(row) of token \(token) is \(output[token * rows + row])",
          remedy: "\(wanted) is right")
      }
    }
  }
}
print("consumer: builds by version and multiplies right on \(InstructionSet.best.rawValue)")
