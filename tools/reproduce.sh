#!/usr/bin/env bash
# From a clean clone to a report: builds, verifies the small cases, runs the quick form of every configuration, writes
# results/quick/report/. Finished rows of an interrupted run of the same build are kept; results of another build or
# machine are moved aside, to NAME.h5.old, and made anew. Ctrl-C and SIGTERM let nalab end in order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# leave: the end of an interrupted run.
leave() {
  echo "Interrupted. What was finished is kept in results/quick; tools/reproduce.sh goes on from there." >&2
  exit 130
}

child=
stopped=
on_signal() {
  stopped=1
  if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; else leave; fi
}
trap on_signal INT TERM

# gently COMMAND...: in the background, since bash would hear of a signal only after a command in the foreground.
gently() {
  local code=0
  "$@" &
  child=$!
  while true; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  child=
  [[ -z $stopped ]] || leave
  return "$code"
}

tools/build.sh nalab
nalab=build/release/nalab

"$nalab" info
for cases in data/cases/*.h5; do
  "$nalab" verify "$cases" --variant all
done

# clock SECONDS: "4 min 10 s"
clock() { if (($1 < 60)); then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi; }

# estimate CONFIG: whole seconds that the plan's last line names, at least 1.
estimate() {
  "$nalab" run "$1" --quick --dry-run | awk '
    BEGIN { unit["us"] = 1e-6; unit["ms"] = 1e-3; unit["s"] = 1; unit["min"] = 60; unit["h"] = 3600 }
    $1 == "time" { for (i = 2; i < NF; ++i) if ($(i + 1) in unit) sum += $i * unit[$(i + 1)] }
    END { print sum < 1 ? 1 : int(sum) }'
}

# run_quick CONFIG RESULT: keeps what an interrupted run left, unless nalab says that it cannot.
run_quick() {
  local config=$1 result=$2 errors code=0
  gently "$nalab" run "$config" --quick --resume -o "$result" || code=$?
  [[ $code -eq 2 ]] || return "$code"
  errors=$("$nalab" run "$config" --quick --resume -o "$result" 2>&1 >/dev/null) || code=$?
  [[ $errors == "nalab: $result: cannot be resumed: "* ]] || return "$code"
  echo "$result is of another build, machine or configuration: moved to $result.old"
  mv --backup=numbered "$result" "$result.old" || return
  code=0
  gently "$nalab" run "$config" --quick -o "$result" || code=$?
  return "$code"
}

configs=(configs/*.yaml)
estimates=()
to_go=0
for config in "${configs[@]}"; do
  estimates+=("$(estimate "$config")")
  to_go=$((to_go + estimates[-1]))
done

# A wrong result (1) does not keep the others from the report; anything else ends here.
results=()
code=0
planned=0
start=$SECONDS
for i in "${!configs[@]}"; do
  name=$(basename "${configs[i]}" .yaml)
  # Plans are rough: what they said of the configurations done so far corrects what they say of the others.
  spent=$((SECONDS - start))
  left=$((planned > 30 ? to_go * spent / planned : to_go))
  echo "== $((i + 1)) of ${#configs[@]}: $name; $(clock "$spent") so far, about $(clock "$left") to go"
  run_quick "${configs[i]}" "results/quick/$name.h5" || code=$?
  [[ $code -le 1 ]] || exit "$code"
  results+=("results/quick/$name.h5")
  planned=$((planned + estimates[i]))
  to_go=$((to_go - estimates[i]))
done

"$nalab" report "${results[@]}" -o results/quick/report --png
echo "The report is in $PWD/results/quick/report/index.html, made in $(clock $SECONDS)"
exit "$code"
