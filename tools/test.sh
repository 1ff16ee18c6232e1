#!/usr/bin/env bash
# tools/test.sh [CMAKE_OPTIONS...]: from a clean clone to the verdict of all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/build.sh all "$@"
ctest --preset release -j "$(nproc)"
