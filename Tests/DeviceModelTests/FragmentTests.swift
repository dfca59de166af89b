import DeviceModel
import Testing

@Suite struct FragmentTests {
  @Test(arguments: Fragment.all)
  func isBijection(_ fragment: Fragment) {
    var seen = Set<Fragment.Coordinate>()
    for lane in 0..<fragment.lanes {
      for element in 0..<fragment.elementsPerLane {
        let at = fragment.coordinate(lane: lane, element: element)
        #expect((0..<fragment.tiles).contains(at.tile))
        #expect((0..<fragment.rows).contains(at.row))
        #expect((0..<fragment.columns).contains(at.column))
        #expect(seen.insert(at).inserted)
        #expect(fragment.position(of: at) == .init(lane: lane, element: element))
      }
    }
    #expect(seen.count == fragment.elements)
    #expect(fragment.elements == fragment.tiles * fragment.rows * fragment.columns)
  }

  /// The documented maps, written as the manuals write them.
  @Test func tensorCoreMapsAreTheManuals() {
    for lane in 0..<32 {
      let g = lane / 4
      let t = lane % 4
      func at(_ fragment: Fragment, _ i: Int) -> [Int] {
        let place = fragment.coordinate(lane: lane, element: i)
        return [place.row, place.column]
      }
      for i in 0..<8 {
        #expect(
          at(.mmaM16N8K16A, i) == [g + 8 * ((i >> 1) & 1), 2 * t + (i & 1) + 8 * (i >> 2)])
      }
      for i in 0..<4 {
        #expect(at(.mmaM16N8K16B, i) == [2 * t + (i & 1) + 8 * (i >> 1), g])
        #expect(at(.mmaM16N8K16C, i) == [g + 8 * (i >> 1), 2 * t + (i & 1)])
        #expect(at(.mmaM16N8K32C, i) == [g + 8 * (i >> 1), 2 * t + (i & 1)])
      }
      for i in 0..<16 {
        #expect(
          at(.mmaM16N8K32A, i) == [g + 8 * ((i >> 2) & 1), 4 * t + (i & 3) + 16 * (i >> 3)])
      }
      for i in 0..<8 {
        #expect(at(.mmaM16N8K32B, i) == [4 * t + (i & 3) + 16 * (i >> 2), g])
      }
    }
  }

  @Test func voltaMapsAreTheManuals() {
    for quad in 0..<4 {
      for t8 in 0..<8 {
        let lane = t8 % 4 + 4 * quad + 16 * (t8 / 4)
        func at(_ fragment: Fragment, _ i: Int) -> [Int] {
          let place = fragment.coordinate(lane: lane, element: i)
          return [place.tile, place.row, place.column]
        }
        for v in 0..<4 {
          #expect(at(.voltaARowMajor, v) == [quad, t8, v])
          #expect(at(.voltaAColumnMajor, v) == [quad, 4 * (t8 / 4) + v, t8 % 4])
          #expect(at(.voltaBColumnMajor, v) == [quad, v, t8])
          #expect(at(.voltaBRowMajor, v) == [quad, t8 % 4, 4 * (t8 / 4) + v])
        }
        for v in 0..<8 {
          #expect(at(.voltaCHalf, v) == [quad, t8, v])
          let (t0, t1, t2) = (t8 & 1, (t8 >> 1) & 1, t8 >> 2)
          let (v0, v1, v2) = (v & 1, (v >> 1) & 1, v >> 2)
          #expect(
            at(.voltaCFloat, v) == [quad, t0 + 4 * t2 + 2 * v1, 2 * t1 + v0 + 4 * v2])
        }
      }
    }
  }

  /// ldmatrix.x4 of a row-major 16×16 tile, addressed as kernels do (row = lane mod 16, column
  /// 8·(lane div 16)), loads exactly the A operand; transposed from a k-major tile, two B operands.
  @Test func ldmatrixLoadsOperands() {
    for lane in 0..<32 {
      for element in 0..<8 {
        let inMatrix = Fragment.ldmatrixX4.coordinate(lane: lane, element: element)
        let address = 8 * inMatrix.tile + inMatrix.row  // the lane that supplied this row's address
        let row = address % 16
        let column = 8 * (address / 16) + inMatrix.column
        let wanted = Fragment.mmaM16N8K16A.coordinate(lane: lane, element: element)
        #expect([row, column] == [wanted.row, wanted.column])

        let turned = Fragment.ldmatrixX4Transposed.coordinate(lane: lane, element: element)
        // Matrices 0 and 1 are k 0…7 and 8…15 of n-tile 0, matrices 2 and 3 those of n-tile 1.
        let k = 8 * (turned.tile % 2) + turned.row
        let b = Fragment.mmaM16N8K16B.coordinate(lane: lane, element: element % 4)
        #expect(turned.tile / 2 == element / 4)
        #expect([k, turned.column] == [b.row, b.column])
      }
    }
  }

  /// Two n8 accumulators side by side are the A operand of the next product (attention's S to P·V).
  @Test func accumulatorsChainIntoOperandA() {
    for lane in 0..<32 {
      for element in 0..<8 {
        let a = Fragment.mmaM16N8K16A.coordinate(lane: lane, element: element)
        let c = Fragment.mmaM16N8K16C.coordinate(lane: lane, element: element % 4)
        #expect([a.row, a.column] == [c.row, c.column + 8 * (element / 4)])
      }
    }
  }

  @Test func processorFragmentsAreLanesByInputs() {
    let shapes: [(Fragment, Int, Int)] = [
      (.vpdpbusd512, 16, 4), (.vpdpbusd256, 8, 4), (.maddubs256, 8, 4), (.sdot, 4, 4),
      (.smmla, 2, 8),
    ]
    for (fragment, outputs, inputs) in shapes {
      #expect(fragment.columns == outputs && fragment.rows == inputs)
      for lane in 0..<outputs {
        for element in 0..<inputs {
          #expect(
            fragment.coordinate(lane: lane, element: element)
              == .init(row: element, column: lane))
        }
      }
    }
  }

  @Test func refusesDigitsThatAreNoBijection() {
    let bad: [[Fragment.Digit]] = [
      [.init(4, .row), .init(4, .row)], [.init(4, .row, stride: 2)], [.init(1, .row)],
      [.init(4, .row), .init(2, .row, stride: 8)], [.init(0, .column)], [.init(-3, .column)],
    ]
    for digits in bad {
      #expect(throws: LayoutError.self) {
        try Fragment(name: "bad", operand: .a, elementBits: 8, lane: digits, element: [])
      }
    }
    #expect(throws: LayoutError.self) {
      try Fragment(
        name: "huge", operand: .a, elementBits: 8, lane: [.init(1 << 15, .row)],
        element: [.init(1 << 15, .column)])
    }
    #expect(throws: LayoutError.self) {
      try Fragment(name: "wide", operand: .a, elementBits: 65, lane: [], element: [.init(2, .row)])
    }
  }

  @Test func printsItsDigits() {
    #expect(
      Fragment.mmaM16N8K16B.description
        == "mma.m16n8k16.f16.b 16×8 lane (4,8):(r2,c1) element (2,2):(r1,r8)")
    #expect(Fragment.voltaCHalf.description.hasPrefix("mma.m8n8k4.f16.c 4×8×8 lane"))
  }

  @Test func strangeIndicesDoNotTrap() {
    let at = Fragment.mmaM16N8K16A.coordinate(lane: -1, element: .min)
    #expect(at.row < 16 && at.column < 16)
    _ = Fragment.mmaM16N8K16A.position(of: .init(tile: -4, row: .min, column: .max))
  }
}
