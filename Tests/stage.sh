# Sourced by what runs tests: stages with a budget in minutes, timed, and a table of them. Scripts that one of these
# starts add to its table. Budgets are those of continuous integration on two cores; being over is only said, since a
# machine's neighbors can double any of them.

if [ -z "${QUANTKERNELS_STAGES:-}" ]; then
  QUANTKERNELS_STAGES=$(mktemp)
  export QUANTKERNELS_STAGES
  trap 'rm -f "$QUANTKERNELS_STAGES"' EXIT
fi
stage_name=

# stage NAME MINUTES: ends the stage before and begins this one.
stage() {
  end_stage
  stage_name=$1 stage_budget=$2 stage_start=$SECONDS
  echo "== stage $1: begins, $2 minutes"
}

end_stage() {
  [ -n "$stage_name" ] || return 0
  local seconds=$((SECONDS - stage_start))
  printf '%s\t%s\t%s\n' "$stage_name" "$seconds" "$stage_budget" >>"$QUANTKERNELS_STAGES"
  echo "== stage $stage_name: $(minutes "$seconds") of $stage_budget minutes"
  if [ "$seconds" -gt $((60 * stage_budget)) ]; then
    echo "warning: stage $stage_name is OVER ITS BUDGET: $(minutes "$seconds") of $stage_budget minutes" >&2
  fi
  stage_name=
}

# minutes SECONDS: with one decimal.
minutes() {
  local tenths=$((($1 + 3) / 6))
  echo "$((tenths / 10)).$((tenths % 10))"
}

# stage_table: every stage that has ended, and their sum.
stage_table() {
  local name seconds budget all=0 allowed=0
  echo "== stages, minutes of their budget"
  while IFS=$'\t' read -r name seconds budget; do
    printf '%-28s %5s of %2s%s\n' "$name" "$(minutes "$seconds")" "$budget" \
      "$([ "$seconds" -gt $((60 * budget)) ] && echo '  OVER' || true)"
    all=$((all + seconds)) allowed=$((allowed + budget))
  done <"$QUANTKERNELS_STAGES"
  printf '%-28s %5s of %2s\n' all "$(minutes "$all")" "$allowed"
}
