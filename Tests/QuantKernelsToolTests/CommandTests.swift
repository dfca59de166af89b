import Foundation
import XCTest

/// What each command prints with `--json`, on a tiny model.
final class CommandTests: XCTestCase {
  nonisolated(unsafe) private static var shared: ToolFixture?

  private func fixture() throws -> ToolFixture {
    if let shared = Self.shared { return shared }
    let made = try ToolFixture()
    Self.shared = made
    return made
  }

  override class func tearDown() { shared = nil }

  private func json(_ arguments: [String], input: String = "") throws -> [String: Any] {
    let run = try ToolRun(arguments + ["--json"], input: input)
    XCTAssertEqual(run.status, 0, "\(arguments): \(run.error)")
    XCTAssertEqual(run.output.filter { $0 == "\n" }.count, 1, "one object, one line")
    return try run.json
  }

  private func number(_ object: [String: Any], _ path: String...) throws -> Double {
    var value: Any = object
    for key in path { value = try XCTUnwrap((value as? [String: Any])?[key], "no \(path)") }
    return try XCTUnwrap(value as? Double, "\(path) is no number")
  }

  /// A timing has its four keys, in order.
  private func expectTiming(_ object: [String: Any], _ path: String...) throws {
    var value: Any = object
    for key in path { value = try XCTUnwrap((value as? [String: Any])?[key], "no \(path)") }
    let timing = try XCTUnwrap(value as? [String: Any])
    let median = try number(timing, "median")
    XCTAssertGreaterThan(try number(timing, "minimum"), 0)
    XCTAssertLessThanOrEqual(try number(timing, "minimum"), median)
    XCTAssertLessThanOrEqual(median, try number(timing, "maximum"))
    XCTAssertGreaterThanOrEqual(try number(timing, "runs"), 1)
  }

  func testGenerate() throws {
    let model = try fixture().model
    let arguments = [
      "generate", "--model", model, "--prompt", "the river", "-n", "12", "--no-chat-template",
    ]
    let object = try json(arguments)
    let tokens = try XCTUnwrap(object["tokens"] as? [Int])
    XCTAssertLessThanOrEqual(tokens.count, 12)
    XCTAssertNotNil(object["text"] as? String)
    XCTAssertGreaterThan(try number(object, "promptTokens"), 0)
    XCTAssertGreaterThan(try number(object, "promptTokensPerSecond"), 0)
    XCTAssertGreaterThan(try number(object, "decodeTokensPerSecond"), 0)
    // The same text for every number of threads, and streamed.
    let three = try json(arguments + ["--threads", "3"])
    XCTAssertEqual(three["tokens"] as? [Int], tokens)
    let streamed = try ToolRun(arguments)
    XCTAssertEqual(streamed.status, 0)
    XCTAssertEqual(streamed.output, (object["text"] as? String ?? "") + "\n")
    XCTAssertEqual(streamed.error, "", "no progress where standard error is no terminal")
  }

  func testGenerateIsRepeatableBySeed() throws {
    let model = try fixture().model
    func tokens(seed: String) throws -> [Int]? {
      try json([
        "generate", "--model", model, "--prompt", "a", "-n", "16", "--temperature", "2",
        "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", seed, "--no-chat-template",
      ])["tokens"] as? [Int]
    }
    XCTAssertEqual(try tokens(seed: "7"), try tokens(seed: "7"))
    XCTAssertNotEqual(try tokens(seed: "7"), try tokens(seed: "8"))
  }

  func testPromptFromStandardInputAndEmptyPrompt() throws {
    let model = try fixture().model
    let arguments = ["generate", "--model", model, "-n", "4", "--no-chat-template"]
    let direct = try json(arguments + ["--prompt", "the river"])
    let piped = try json(arguments + ["--prompt-file", "-"], input: "the river")
    XCTAssertEqual(piped["tokens"] as? [Int], direct["tokens"] as? [Int])
    // An empty prompt starts from the model's beginning-of-sequence token.
    XCTAssertEqual(try number(try json(arguments + ["--prompt", ""]), "promptTokens"), 1)
  }

  func testPerplexity() throws {
    let fixture = try fixture()
    let text = fixture.write("text.txt", ToolFixture.text)
    let arguments = ["perplexity", "--model", fixture.model, "--text", text, "--context", "32"]
    let object = try json(arguments + ["--chunks", "3"])
    XCTAssertGreaterThan(try number(object, "perplexity"), 1)
    XCTAssertGreaterThan(try number(object, "standardError"), 0)
    XCTAssertEqual(try number(object, "tokens"), 3 * 15)
    // Keys and values of 2 heads of 32 in 2 layers, two bytes each.
    XCTAssertEqual(try number(object, "keyValueBytesPerToken"), 2 * 2 * 2 * 32 * 2)
    let wide = try json(arguments + ["--chunks", "3", "--kv-cache", "f32"])
    XCTAssertEqual(try number(wide, "keyValueBytesPerToken"), 2 * 2 * 2 * 32 * 4)
    let sliding = try json(arguments + ["--chunks", "3", "--stride", "8"])
    XCTAssertEqual(try number(sliding, "tokens"), 3 * 8)
  }

  func testTokenize() throws {
    let model = try fixture().model
    let tokens = try XCTUnwrap(
      try json(["tokenize", "--model", model], input: "the river <")["tokens"] as? [Int])
    XCTAssertFalse(tokens.isEmpty)
    let file = try fixture().write("tokens.txt", "the river <")
    let run = try ToolRun(["tokenize", "--model", model, "--text-file", file])
    XCTAssertEqual(run.output, tokens.map(String.init).joined(separator: " ") + "\n")
    XCTAssertEqual(try json(["tokenize", "--model", model])["tokens"] as? [Int], [])
  }

  func testInspect() throws {
    let object = try json(["inspect", try fixture().model])
    XCTAssertEqual(object["architecture"] as? String, "llama")
    let tensors = try XCTUnwrap(object["tensors"] as? [[String: Any]])
    let query = try XCTUnwrap(tensors.first { $0["name"] as? String == "blk.0.attn_q.weight" })
    XCTAssertEqual(query["type"] as? String, "Q4_1")
    XCTAssertEqual(query["shape"] as? [Int], [128, 64])
    XCTAssertEqual(query["bytes"] as? Int, 128 * 64 / 32 * 20)
  }

  func testBenchMachine() throws {
    let object = try json([
      "bench", "machine", "--threads", "2", "--repetitions", "1", "--read-megabytes", "4",
    ])
    XCTAssertEqual(try number(object, "threads"), 2)
    for key in [
      "readGigabytesPerSecond", "int8GigaMACPerSecond", "bfloat16GigaflopPerSecond",
      "float32GigaflopPerSecond",
    ] {
      XCTAssertGreaterThan(try number(object, key), 0, key)
    }
  }

  func testBenchModel() throws {
    let object = try json([
      "bench", "model", "--model", try fixture().model, "-p", "16", "-n", "4", "--depth", "8",
      "--repetitions", "2", "--read-megabytes", "4",
    ])
    try expectTiming(object, "prompt", "tokensPerSecond")
    try expectTiming(object, "decode", "tokensPerSecond")
    XCTAssertGreaterThan(try number(object, "decode", "shareOfReadBandwidth"), 0)
    let weights = try number(object, "weightBytesPerToken")
    // At depth 8 with 4 tokens decoded a step reads ten positions of 512 bytes.
    XCTAssertEqual(try number(object, "bytesPerToken"), weights + 10 * 512)
  }

  func testBenchMatmul() throws {
    for format in ["int4", "q4_0", "q4_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16", "f32"] {
      let object = try json([
        "bench", "matmul", "--format", format, "--m", "33", "--n", "48", "--k", "256",
        "--repetitions", "1", "--read-megabytes", "4", "--threads", "1",
      ])
      try expectTiming(object, "microseconds")
      for key in [
        "gigaMACPerSecond", "weightGigabytesPerSecond", "shareOfInt8Peak", "shareOfReadBandwidth",
      ] {
        XCTAssertGreaterThan(try number(object, key), 0, "\(format) \(key)")
      }
      XCTAssertTrue((object["kernel"] as? String ?? "").hasPrefix("qk_gemm_\(format)"))
    }
  }

  func testBenchAttention() throws {
    let sizes = [
      "--heads", "4", "--kv-heads", "2", "--head-dim", "32", "--repetitions", "1",
      "--read-megabytes", "4",
    ]
    for type in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
      for (queries, more) in [
        ("1", []), ("40", ["--causal", "--window", "9"]), ("2", ["--page", "16"]),
      ] {
        let object = try json(
          ["bench", "attention", "--query-length", queries, "--kv-length", "70", "--kv-type", type]
            + sizes + more)
        try expectTiming(object, "microseconds")
        for key in ["gigaflopPerSecond", "keyValueGigabytesPerSecond", "shareOfRoofline"] {
          XCTAssertGreaterThan(try number(object, key), 0, "\(type) \(key)")
        }
        XCTAssertTrue((object["kernel"] as? String ?? "").hasPrefix("qk_attention_\(type)__"))
      }
    }
    // The unfused way is another program over the same numbers.
    for more in [[], ["--causal"], ["--causal", "--window", "9"]] {
      let object = try json(
        [
          "bench", "attention", "--query-length", "40", "--kv-length", "70", "--kv-type", "f32",
          "--unfused",
        ] + sizes + more)
      let unfused = try XCTUnwrap(object["unfused"] as? [String: Any])
      try expectTiming(unfused, "microseconds")
      XCTAssertLessThan(try number(unfused, "largestDifference"), 5e-6)
      XCTAssertGreaterThan(try number(unfused, "scratchBytes"), 4 * 40 * 70)
    }
  }

  func testKeyValueTypesOfAModel() throws {
    var bytes: [Double] = []
    for type in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
      let object = try json([
        "perplexity", "--model", try fixture().model, "--text",
        try fixture().write("kv.txt", ToolFixture.text),
        "--context", "16", "--chunks", "2", "--kv-cache", type,
      ])
      XCTAssertGreaterThan(try number(object, "perplexity"), 1, type)
      bytes.append(try number(object, "keyValueBytesPerToken"))
    }
    XCTAssertEqual(bytes[0], 2 * bytes[1])
    XCTAssertEqual(bytes[1], bytes[2])
    XCTAssertLessThan(bytes[3], 0.6 * bytes[1])
    XCTAssertLessThan(bytes[4], 0.6 * bytes[3])
  }

  func testBenchMatmulOfAListAndOfEachInstructionSet() throws {
    let shapes = try fixture().write(
      "shapes.txt", "# two\nint4 33 64 64 32 symmetric\n\nq8_0 40 64 64 # one\n")
    let object = try json([
      "bench", "matmul", "--shapes", shapes, "--isa", "scalar", "--repetitions", "1",
      "--read-megabytes", "4",
    ])
    let cases = try XCTUnwrap(object["cases"] as? [[String: Any]])
    XCTAssertEqual(cases.map { $0["format"] as? String }, ["INT4", "Q8_0"])
    XCTAssertEqual(cases.first?["symmetric"] as? Bool, true)
    XCTAssertTrue(cases.allSatisfy { ($0["kernel"] as? String ?? "").hasSuffix("__scalar") })
  }

  func testConvertRoundTrips() throws {
    let fixture = try fixture()
    func convert(_ from: String, _ type: String, _ name: String) throws -> [String: Any] {
      try json(["convert", from, "--to", type, "-o", fixture.path(name)])
    }
    // To the type that it is, a file stays what it was but for its head and embedding.
    let same = try json([
      "convert", fixture.model, "--to", "q4_1", "--embeddings", "q8_0", "-o",
      fixture.path("same.gguf"),
    ])
    XCTAssertEqual(same["exact"] as? Int, same["converted"] as? Int)
    // Wider and back gives the same blocks.
    _ = try convert(fixture.model, "f32", "wide.gguf")
    XCTAssertEqual(
      try json(["inspect", fixture.path("wide.gguf")])["architecture"] as? String, "llama")
    // Among the int4 formats nothing is lost.
    _ = try convert(fixture.model, "awq", "a.safetensors")
    _ = try convert(fixture.path("a.safetensors"), "quick", "b.safetensors")
    _ = try convert(fixture.path("b.safetensors"), "gptq", "c.safetensors")
    _ = try convert(fixture.path("c.safetensors"), "awq", "d.safetensors")
    XCTAssertEqual(try fixture.bytes("a.safetensors"), try fixture.bytes("d.safetensors"))
    let tensors = try XCTUnwrap(
      try json(["inspect", fixture.path("a.safetensors")])["tensors"] as? [[String: Any]])
    let names = Set(tensors.compactMap { $0["name"] as? String })
    for name in ["qweight", "qzeros", "scales"] {
      XCTAssertTrue(names.contains("model.layers.0.self_attn.q_proj.\(name)"), name)
    }
  }
}
