/// Numbers of a fixed place, zero at first, for loops and BLAS calls through pointers.
final class ScalarBuffer<Scalar: DenseScalar>: @unchecked Sendable {
  let pointer: UnsafeMutablePointer<Scalar>
  let count: Int

  init(count: Int) {
    self.count = count
    pointer = .allocate(capacity: max(count, 1))
    pointer.initialize(repeating: 0, count: max(count, 1))
  }

  convenience init(_ values: some Collection<Scalar>) {
    self.init(count: values.count)
    for (index, value) in values.enumerated() { pointer[index] = value }
  }

  deinit { pointer.deallocate() }

  func clear() { pointer.update(repeating: 0, count: count) }
}
