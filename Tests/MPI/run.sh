#!/usr/bin/env bash
# Ranks that are processes, started by mpirun, against ranks that are threads: collectives, schemes, a whole model,
# and ranks that go wrong; then the same over TCP between two network namespaces with addresses of their own.
# Takes the folder of binaries that were built with --traits MPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
. Benchmarks/install.sh
ranks="$1/MPIRanks" tool="$1/quantkernels"
work=$(mktemp -d)
spaces=()
finish() {
  for space in "${spaces[@]}"; do as_root ip netns del "$space" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap finish EXIT

# More ranks than cores, as root in a container, and without the copies between processes that containers forbid.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none
failures=0

fail() {
  note "failed: $*"
  failures=$((failures + 1))
}

# expect STATUS PATTERN COMMAND...: the command ends within a minute with the status, and of all that it prints just
# one line is an error of ours (or none, for 0) and one matches the pattern.
expect() {
  local status=$1 pattern=$2 found=0 errors wanted=1 start=$SECONDS
  shift 2
  timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null || found=$?
  errors=$(grep -c '^error: ' "$work/err" || true)
  [ "$status" = 0 ] && wanted=0
  [ "$status" = launcher ] && wanted=0
  if [ "$status" = launcher ] && [ "$found" -ne 0 ] && [ "$found" -ne 124 ]; then found=launcher; fi
  if [ "$found" != "$status" ] || [ "$errors" != "$wanted" ] \
    || ! cat "$work/out" "$work/err" | grep -qE -- "$pattern"; then
    fail "$* ended with $found after $((SECONDS - start)) s, $errors errors, not $status and '$pattern'"
    head -c 3000 "$work/out" "$work/err" >&2
    return
  fi
  echo "$((SECONDS - start)) s: $(cat "$work/out" "$work/err" | grep -E -m1 -- "$pattern" | cut -c1-150)"
}

# all_of COMMAND...: what runs with the launcher given.
all_of() {
  local count=$1
  shift
  expect 0 '^ok: ' "$@" -n "$count" "$ranks" collectives
  expect 0 '^ok: ' "$@" -n "$count" "$ranks" schemes
}

"$ranks" model "$work/eight.gguf"
"$ranks" model "$work/other.gguf" 2

for count in 1 2 4 8; do
  all_of "$count" mpirun
  expect 0 '^ok: ' mpirun -n "$count" "$ranks" logits "$work/eight.gguf"
done

# What the tool prints, on processes and on threads.
same() {
  local count=$1
  shift
  "$tool" "$@" --ranks "$count" --json | sed -E 's/"[a-zA-Z]*PerSecond":[^,}]*//g' >"$work/threads"
  mpirun -n "$count" "$tool" "$@" --json | sed -E 's/"[a-zA-Z]*PerSecond":[^,}]*//g' >"$work/processes"
  if [ -s "$work/threads" ] && cmp -s "$work/threads" "$work/processes"; then
    echo "$count ranks: generate prints what it prints on threads"
  else
    fail "generate on $count processes: $(cat "$work/processes"), on threads: $(cat "$work/threads")"
  fi
}
for count in 1 2 4 8; do
  same "$count" generate --model "$work/eight.gguf" --prompt "A river" -n 12 --threads 8
done
# GPTQ layers in act-order, the orders moved into gate, up and values.
"$tool" convert "$work/eight.gguf" --to gptq --act-order --calibrate README.md --calibration-tokens 2048 --tp-aware \
  -o "$work/eight.safetensors" >/dev/null
same 4 generate --model "$work/eight.gguf" --int4-layers "$work/eight.safetensors" --prompt "A river" -n 12
expect 0 '^ok: ' mpirun -n 4 "$ranks" logits "$work/eight.gguf" "$work/eight.safetensors"
if model=$(Benchmarks/model.sh 2>/dev/null); then
  same 2 generate --model "$model" --prompt "Name three rivers." -n 16
else
  note "skipped: a real model on processes (it could not be fetched)"
fi
expect 0 'tp-aware +16 ' mpirun -n 2 "$tool" bench tensor-parallel --k 512 --hidden 1792 --n 512 --group 64 \
  --rounds 3

# Ranks that go wrong: one error, the same exit code for all, within seconds.
for count in 2 8; do
  broken=(mpirun -n "$count" "$ranks" broken)
  expect 65 'error: rank 1, weights: damaged; get them again' "${broken[@]}" throws
  expect 65 'error: weights: spoilt; get them again' "${broken[@]}" aborts
  expect 65 'error: rank 1: has ended while others wait' "${broken[@]}" returns
  expect 65 'error: rank 1: has ended its process' "${broken[@]}" exits
  expect 65 'error: rank 1: came for barrier of 0 .* all-reduce of 100' "${broken[@]}" kind
  expect 65 'error: rank 1: came for all-reduce of 99 ' "${broken[@]}" size
  expect 65 'error: rank 1: came for all-reduce of 99999 ' "${broken[@]}" large
  expect 65 'error: rank [01]: sends [24] values to rank [01], which expects 3' "${broken[@]}" counts
  expect 65 'error: rank 1: all-to-all of' "${broken[@]}" arguments
  expect 65 'error: .*weights, scheme or order of the hidden channels: rank 1 has another' "${broken[@]}" order
  # One that only takes long is waited for.
  expect 0 'ok: nobody noticed' "${broken[@]}" computes
  # A process that dies ends all through the launcher, which says so.
  expect launcher 'process rank 1 .* exited on signal 9' "${broken[@]}" dies
done
expect launcher 'process rank 1 .* exited on signal' mpirun -n 4 "$ranks" broken traps
expect 69 'error: rank 1: has said nothing for' mpirun -n 4 "$ranks" broken stops

# The tool's own.
generate=("$tool" generate --prompt x -n 4 --model)
expect 65 'error: .*model of the ranks: rank 1 has another one' \
  mpirun -n 1 "${generate[@]}" "$work/eight.gguf" : -n 1 "${generate[@]}" "$work/other.gguf"
expect 65 'error: .*options of the ranks: rank 1 has another one' \
  mpirun -n 1 "${generate[@]}" "$work/eight.gguf" : -n 1 "${generate[@]}" "$work/eight.gguf" --exact
expect 65 'error: .*sampling of the ranks: rank 1 has another one' \
  mpirun -n 1 "${generate[@]}" "$work/eight.gguf" : -n 1 "${generate[@]}" "$work/eight.gguf" --seed 3
expect 66 'error: .*none.gguf' \
  mpirun -n 1 "${generate[@]}" "$work/eight.gguf" : -n 1 "${generate[@]}" "$work/none.gguf"
expect 66 'error: .*none.gguf' mpirun -n 4 "${generate[@]}" "$work/none.gguf"
expect 64 'error: .*--ranks 3: mpirun has started 2' mpirun -n 2 "${generate[@]}" "$work/eight.gguf" --ranks 3
expect 64 'error: .*has started 2 ranks of a command for one' mpirun -n 2 "$tool" devices
expect 64 'error: .*--help' mpirun -n 4 "$tool" generate --nonsense
expect 69 'error: .*16 ranks: there are 8 heads' mpirun -n 16 "${generate[@]}" "$work/eight.gguf"
if [ "$(mpirun -n 4 "$tool" --version | grep -c .)" != 1 ]; then fail "--version is printed more than once"; fi

# Two machines, as far as the network goes: processes in namespaces of their own, joined by a cable.
two_networks() {
  [ "$(uname -s)" = Linux ] && need ip iproute2 || return 1
  as_root ip netns add "qk-a-$$" 2>/dev/null || return 1
  spaces+=("qk-a-$$")
  as_root ip netns add "qk-b-$$" 2>/dev/null || return 1
  spaces+=("qk-b-$$")
  as_root ip link add "qka$$" netns "qk-a-$$" type veth peer name "qkb$$" netns "qk-b-$$" 2>/dev/null \
    || return 1
  local side address=1
  for side in a b; do
    as_root ip -n "qk-$side-$$" address add "10.77.$(($$ % 250)).$address/24" dev "qk$side$$" || return 1
    as_root ip -n "qk-$side-$$" link set "qk$side$$" up || return 1
    as_root ip -n "qk-$side-$$" link set lo up || return 1
    address=$((address + 1))
  done
}
if two_networks; then
  network="10.77.$(($$ % 250))"
  # What mpirun takes for ssh: HOST COMMAND... Host names of their own, as Open MPI takes ranks of one name for
  # neighbors that share memory.
  cat >"$work/agent" <<EOF
#!/bin/sh
shift
exec ip netns exec qk-b-$$ unshare --uts sh -c "hostname qk-b; \$*"
EOF
  cat >"$work/here" <<EOF
#!/bin/sh
exec ip netns exec qk-a-$$ unshare --uts sh -c 'hostname qk-a; exec "\$@"' sh "\$@"
EOF
  chmod +x "$work/agent" "$work/here"
  privileged=()
  [ "$(id -u)" -eq 0 ] || privileged=(sudo -n -E)
  across=("${privileged[@]}" "$work/here" mpirun --host "$network.1:4,$network.2:4" --map-by node
    --mca plm_rsh_agent "$work/agent" --mca btl "tcp,self" --mca btl_tcp_if_include "$network.0/24"
    --mca oob_tcp_if_include "$network.0/24")
  addresses=$("${across[@]}" -n 2 sh -c 'ip -o -4 address show scope global | awk "{ print \$4 }"' | sort -u | wc -l)
  if [ "$addresses" != 2 ]; then fail "the ranks of two networks have $addresses addresses"; fi
  for count in 2 4 8; do
    all_of "$count" "${across[@]}"
  done
  expect 0 '^ok: ' "${across[@]}" -n 4 "$ranks" logits "$work/eight.gguf"
  expect 65 'error: rank 1, weights: damaged' "${across[@]}" -n 4 "$ranks" broken throws
  expect launcher 'process rank 1 .* exited on signal 9' "${across[@]}" -n 4 "$ranks" broken dies
  expect 69 'error: rank 1: has said nothing for' "${across[@]}" -n 4 "$ranks" broken stops
else
  note "skipped: ranks in two network namespaces (needs iproute2 and the right to make them)"
fi

if [ "$failures" -gt 0 ]; then
  note "error: MPI: $failures of its checks failed"
  exit 1
fi
echo "MPI: all checks passed"
