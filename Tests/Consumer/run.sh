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
# The Swift examples of the README and of the documentation, each as a file of one module.
mkdir -p "$work/consumer/Sources/Examples"
awk -v folder="$work/consumer/Sources/Examples" -v expected="$work/expected" \
  -f "$root/Tests/Consumer/examples.awk" "$root/README.md" "$root"/Sources/*/Documentation.docc/*.md
sed "s|@REPOSITORY@|file://$work/quantkernels|" "$root/Tests/Consumer/Package.swift.template" \
  >"$work/consumer/Package.swift"
# Version control over file:// is off by default for nested clones. A new history under an old tag would also be
# refused as tampered with, so the fingerprint belongs to a folder of its own.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
swift package --package-path "$work/consumer" --scratch-path "$work/scratch" \
  --security-path "$work/security" --cache-path "$work/cache" reset
rm -rf "$work/security" "$work/cache/repositories/quantkernels"*
# Kernels without the manifest's -O2, whose compilation would be a third of this: what is asked of them here is little.
options=(-Xcc -O0 --package-path "$work/consumer" --scratch-path "$work/scratch"
  --security-path "$work/security" --cache-path "$work/cache")
swift build "${options[@]}"
swift run --skip-build "${options[@]}" Consumer
# What the documentation says that its examples print.
swift run --skip-build "${options[@]}" Examples >"$work/printed"
diff -u "$work/expected" "$work/printed"
echo "examples: all compile, $(grep -c '^== ' "$work/expected") print what their pages say"
if [ -e "$work/scratch/checkouts/swift-docc-plugin" ]; then
  echo "error: a consumer checks out the documentation's plug-in" >&2
  exit 1
fi
