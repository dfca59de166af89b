import Testing

@testable import QuantKernelsTool

@Suite("What the tool prints")
struct PrintingTests {
  @Test("JSON is valid whatever the values")
  func json() {
    let value: JSON = [
      "text": "quote \" backslash \\ newline \n tab \t bell \u{7} é 漢 😀",
      "nan": .number(.nan), "infinite": .number(.infinity), "small": 1e-7, "large": 1e300,
      "whole": 3, "flag": true, "none": .null, "list": [1, "two", []],
    ]
    #expect(
      value.text
        == #"{"text":"quote \" backslash \\ newline \n tab \t bell \u0007 é 漢 😀","#
        + #""nan":null,"infinite":null,"small":1e-07,"large":1e+300,"whole":3,"flag":true,"#
        + #""none":null,"list":[1,"two",[]]}"#)
  }

  @Test(
    "Decimals round half away from zero",
    arguments: [
      (0.0, 1, "0.0"), (1.25, 1, "1.3"), (-1.25, 1, "-1.3"), (0.05, 1, "0.1"), (-0.001, 2, "0.00"),
      (9.999, 2, "10.00"), (1234.5, 0, "1235"), (1e20, 1, "1e+20"), (.nan, 1, "nan"),
    ])
  func decimals(_ value: Double, _ places: Int, _ text: String) {
    #expect(fixed(value, places) == text)
  }

  @Test("Medians of odd, even and no samples")
  func medians() {
    #expect(Timing([3, 1, 2]).median == 2)
    #expect(Timing([4, 1, 2, 3]).median == 2.5)
    #expect(Timing().median.isNaN)
    var timing = Timing([2])
    timing.add(1)
    #expect(timing.minimum == 1 && timing.maximum == 2)
    #expect(timing.json.text == #"{"median":1.5,"minimum":1.0,"maximum":2.0,"runs":2}"#)
  }

  @Test("Cells align")
  func cells() {
    #expect(padded("ab", 4) == "  ab")
    #expect(padded("ab", 4, left: true) == "ab  ")
    #expect(padded("abcde", 4) == "abcde")
  }
}
