import QuantKernels

// Two rows of 32 codes: row 0 holds the value 1 in every column, row 1 the value −2.
let weights = try Int4Matrix(
  rows: 2, columns: 32, groupSize: 32,
  codes: [UInt8](repeating: 9, count: 32) + [UInt8](repeating: 4, count: 32),
  scales: [1, 0.5], offsets: .symmetric)
guard weights[0, 5] == 1, weights[1, 5] == -2 else {
  throw QuantError(.invalidData, "consumer", "wrong values", remedy: "look at Int4Matrix")
}
print("consumer: built by version and right")
