import QuantKernels
import TestSupport

@testable import Calibration

extension RepeatableRandom {
  mutating func matrix(_ rows: Int, _ columns: Int) -> Matrix {
    Matrix(rows: rows, columns: columns, values: normals(rows * columns).map(Double.init))
  }

  /// A matrix whose columns differ in size by a factor of about 30 and mix, as activations do.
  mutating func activations(_ rows: Int, _ columns: Int) -> Matrix {
    var values = matrix(rows, columns)
    let mixing = matrix(columns, columns)
    for row in 0..<rows {
      for column in 0..<columns {
        values[row, column] *= 30 / Double(1 + column)
      }
    }
    return values.times(mixing)
  }
}

extension Gram {
  /// Of the rows of X.
  init(of x: Matrix) {
    self.init(width: x.columns)
    x.values.withUnsafeBufferPointer { values in
      if let values = values.baseAddress { add(values, rows: x.rows, stride: x.columns) }
    }
  }
}

extension Matrix {
  func minus(_ other: Matrix) -> Matrix {
    Matrix(rows: rows, columns: columns, values: zip(values, other.values).map { $0 - $1 })
  }

  static func identity(_ size: Int) -> Matrix {
    var matrix = Matrix(zeros: size, size)
    for index in 0..<size { matrix[index, index] = 1 }
    return matrix
  }

  /// By three loops.
  func product(_ other: Matrix) -> Matrix {
    var result = Matrix(zeros: rows, other.columns)
    for row in 0..<rows {
      for column in 0..<other.columns {
        var sum = 0.0
        for index in 0..<columns { sum += self[row, index] * other[index, column] }
        result[row, column] = sum
      }
    }
    return result
  }
}
