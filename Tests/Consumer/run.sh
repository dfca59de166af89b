#!/usr/bin/env bash
# Builds and runs a clean package that depends on this one by version: only then does SwiftPM check the manifest as
# it does for users. The working tree, tagged 1.0.0 in a repository of its own, is what it depends on.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work="$root/.build-consumer"
mkdir -p "$work"
rm -rf "$work/quantkernels" "$work/consumer"
mkdir -p "$work/quantkernels" "$work/consumer"
(cd "$root" && git ls-files -z --cached --others --exclude-standard) \
  | while IFS= read -r -d '' file; do [ -e "$root/$file" ] && printf '%s\0' "$file"; done \
  | tar -C "$root" --null -T - -cf - | tar -C "$work/quantkernels" -xf -
repository=(git -C "$work/quantkernels" -c user.name=consumer -c user.email=consumer@localhost -c commit.gpgsign=false)
"${repository[@]}" init -q
"${repository[@]}" add -A
"${repository[@]}" commit -q -m "The package as its users get it"
"${repository[@]}" -c tag.gpgsign=false tag 1.0.0
cp -R "$root/Tests/Consumer/Sources" "$work/consumer/Sources"
# Every Swift example of the README that begins with an import, each as a file of one module.
mkdir -p "$work/consumer/Sources/Readme"
awk -v folder="$work/consumer/Sources/Readme" '
  /^```swift/ { inside = 1; text = ""; next }
  /^```/ {
    if (inside && text ~ /^import /) {
      count++
      body = text
      imports = ""
      while (match(body, /^import [A-Za-z]+\n/)) {
        imports = imports substr(body, 1, RLENGTH)
        body = substr(body, RLENGTH + 1)
      }
      file = folder "/Example" count ".swift"
      print imports "func example" count "() throws {\n" body "}" > file
      close(file)
    }
    inside = 0
    next
  }
  inside { text = text $0 "\n" }
' "$root/README.md"
echo 'print("readme: its examples compile")' >"$work/consumer/Sources/Readme/main.swift"
sed "s|@REPOSITORY@|file://$work/quantkernels|" "$root/Tests/Consumer/Package.swift.template" \
  >"$work/consumer/Package.swift"
# Version control over file:// is off by default for nested clones. A new history under an old tag would also be
# refused as tampered with, so the fingerprint belongs to a folder of its own.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
swift package --package-path "$work/consumer" --scratch-path "$work/scratch" \
  --security-path "$work/security" --cache-path "$work/cache" reset
rm -rf "$work/security" "$work/cache/repositories/quantkernels"*
options=(--package-path "$work/consumer" --scratch-path "$work/scratch"
  --security-path "$work/security" --cache-path "$work/cache")
swift build "${options[@]}"
swift run --skip-build "${options[@]}" Consumer
swift run --skip-build "${options[@]}" Readme
