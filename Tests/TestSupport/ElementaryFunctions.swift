#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The C library's functions in float64, against which float32 kernels are held.
public func exponential(_ x: Double) -> Double { exp(x) }

public func hyperbolicTangent(_ x: Double) -> Double { tanh(x) }

public func cosine(_ x: Double) -> Double { cos(x) }

public func sine(_ x: Double) -> Double { sin(x) }

public func naturalLogarithm(_ x: Double) -> Double { log(x) }
