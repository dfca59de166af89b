/// A binary heap that gives the smallest key first.
///
/// Keys are 64 bits: a priority in the high half and a position in the low half, so that equal
/// priorities leave from left to right. O(log count) each way.
struct KeyedHeap {
  struct Entry {
    let key: UInt64
    let value: UInt64
  }

  private var entries: [Entry] = []

  var isEmpty: Bool { entries.isEmpty }

  mutating func removeAll() { entries.removeAll(keepingCapacity: true) }

  mutating func insert(_ entry: Entry) {
    entries.append(entry)
    entries.withUnsafeMutableBufferPointer { heap in
      var hole = heap.count - 1
      while hole > 0 {
        let parent = (hole - 1) / 2
        if heap[parent].key <= entry.key { break }
        heap[hole] = heap[parent]
        hole = parent
      }
      heap[hole] = entry
    }
  }

  mutating func removeFirst() -> Entry? {
    guard let last = entries.popLast() else { return nil }
    guard let first = entries.first else { return last }
    entries.withUnsafeMutableBufferPointer { heap in
      var hole = 0
      while true {
        var child = 2 * hole + 1
        if child >= heap.count { break }
        if child + 1 < heap.count, heap[child + 1].key < heap[child].key { child += 1 }
        if heap[child].key >= last.key { break }
        heap[hole] = heap[child]
        hole = child
      }
      heap[hole] = last
    }
    return first
  }
}
