#!/usr/bin/env bash
# tools/fuzz.sh [SECONDS [TARGET...]]: builds the fuzz targets (tests/fuzz/, with Clang and the address and undefined
# behaviour sanitizers) and runs each for SECONDS, 600 unless given. New inputs are kept in build/fuzz/corpus/TARGET,
# from where the next run goes on. A finding ends the run of its target and stands in build/fuzz/findings/; the script
# then fails once all targets have run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-600}
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(config cases results command_line)

tools/install_dependencies.sh clang libclang-rt-dev
options=()
if command -v ccache >/dev/null; then options=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake --preset fuzz "${options[@]}"
cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"

mkdir -p build/fuzz/findings
export LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/lsan.supp
code=0
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  limits=(-max_total_time="$seconds" -max_len=6000 -timeout=60 -rss_limit_mb=3000 -malloc_limit_mb=1000)
  dictionary=tests/fuzz/$target.dict
  [[ ! -e $dictionary ]] || limits+=(-dict="$dictionary")
  echo "== $target, $seconds s"
  build/fuzz/tests/fuzz/"fuzz_$target" "${limits[@]}" -artifact_prefix="build/fuzz/findings/$target-" -print_final_stats=1 \
    "$corpus" "tests/fuzz/corpus/$target" 2> "build/fuzz/$target.log" || code=1
  grep -E '^(#[0-9]+.*(INITED|DONE)|Done|stat::number|SUMMARY|finding)|ERROR' "build/fuzz/$target.log" || true
done
exit "$code"
