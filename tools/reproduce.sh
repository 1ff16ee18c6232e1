#!/usr/bin/env bash
# From a clean clone to a report: builds, verifies the small cases, runs the quick experiments, writes report_out/.
# Results stand in results/quick/. Finished rows of an interrupted run of the same build are kept; results of another
# build or machine are moved aside, to NAME.h5.old, and made anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/build.sh nalab
nalab=build/release/nalab

"$nalab" info
for cases in data/cases/*.h5; do
  "$nalab" verify "$cases" --variant all
done

# run_quick CONFIG RESULT: keeps what an interrupted run left, unless nalab says that it cannot.
run_quick() {
  local config=$1 result=$2 errors code=0
  { errors=$("$nalab" run "$config" --quick --resume -o "$result" 2>&1 >&3) || code=$?; } 3>&1
  if [[ $code -eq 2 && $errors == "nalab: $result: cannot be resumed: "* ]]; then
    echo "$result is of another build, machine or configuration: moved to $result.old"
    mv --backup=numbered "$result" "$result.old" || return
    "$nalab" run "$config" --quick -o "$result"
    return
  fi
  [[ -z $errors ]] || echo "$errors" >&2
  return "$code"
}

# A wrong result (1) does not keep the others from the report; anything else ends here.
results=()
code=0
for config in smoke nat_layers use_cases gna_analytic; do
  result=results/quick/$config.h5
  run_quick "configs/$config.yaml" "$result" || code=$?
  [[ $code -le 1 ]] || exit "$code"
  results+=("$result")
done

"$nalab" report "${results[@]}" -o report_out
echo "The report is in $PWD/report_out/report.md"
exit "$code"
