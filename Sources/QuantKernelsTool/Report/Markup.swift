/// Text that may stand anywhere in HTML or SVG, in an attribute too.
///
/// Control characters, which neither allows, become the replacement character.
func escapedMarkup(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case "'": result += "&#39;"
    case "\n", "\t": result.unicodeScalars.append(scalar)
    case _ where scalar.properties.generalCategory == .control: result += "\u{FFFD}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// A coordinate of a drawing, to a tenth of its unit; never a NaN or an exponent.
func coordinate(_ value: Double) -> String {
  guard value.isFinite else { return "0" }
  return fixed(min(max(value, -1e6), 1e6), 1)
}
