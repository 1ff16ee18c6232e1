#!/usr/bin/env bash
# From a clean clone to a report: builds, verifies the small cases, runs the quick experiments, writes report_out/.
# Finished rows of an interrupted run of the same build are kept; results of another build or machine are made anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/build.sh nalab
nalab=build/release/nalab

"$nalab" info
for cases in data/cases/*.h5; do
  "$nalab" verify "$cases" --variant all
done

# Exit code 2 of a resumed run says that its results are of another build, machine or config.
run_quick() {
  local config=$1 result=$2 code=0
  "$nalab" run "$config" --quick --resume -o "$result" || code=$?
  [[ $code -eq 2 ]] || return "$code"
  rm -f "$result"
  "$nalab" run "$config" --quick -o "$result"
}

mkdir -p results
results=()
code=0
for config in smoke nat_layers use_cases gna_analytic; do
  result=results/$config.h5
  run_quick "configs/$config.yaml" "$result" || code=$?
  results+=("$result")
done

"$nalab" report "${results[@]}" -o report_out
echo "The report is in $PWD/report_out/report.md"
exit "$code"
