# Makes a Swift module of the examples in Markdown files: every block of Swift that begins with an import becomes a
# function in a file of its own. A block of text right behind one is what it prints: the module's main program runs
# those, and `expected` gets what they should print.
#   awk -v folder=SOURCES -v expected=FILE -f examples.awk FILE.md…

function finish(  body, imports) {
  isExample = text ~ /^import /
  if (!isExample) return
  count++
  body = text
  imports = ""
  while (match(body, /^import [A-Za-z]+\n/)) {
    imports = imports substr(body, 1, RLENGTH)
    body = substr(body, RLENGTH + 1)
  }
  file = folder "/Example" count ".swift"
  print "// " place "\n" imports "func example" count "() throws {\n" body "}" > file
  close(file)
}

FNR == 1 { inside = ""; isExample = 0 }
/^```swift/ && inside == "" { inside = "swift"; text = ""; name = FILENAME; sub(/.*\//, "", name); place = name ":" FNR; next }
/^```text/ && inside == "" && isExample {
  inside = "text"
  print "== " place > expected
  runs = runs "  (\"" place "\", example" count "),\n"
  next
}
/^```/ {
  if (inside == "swift") finish()
  else isExample = 0
  inside = inside == "" ? "other" : ""
  next
}
inside == "swift" { text = text $0 "\n"; next }
inside == "text" { print > expected; next }
/[^ ]/ { isExample = 0 }
END {
  main = folder "/main.swift"
  print "let examples: [(place: String, run: () throws -> Void)] = [\n" runs "]" > main
  print "for example in examples {\n  print(\"== \\(example.place)\")\n  try example.run()\n}" > main
  if (count == 0) { print "error: no examples" > "/dev/stderr"; exit 1 }
}
