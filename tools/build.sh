#!/usr/bin/env bash
# tools/build.sh TARGET [CMAKE_OPTIONS...]: installs what is missing, configures the release preset and builds a target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$1
shift
tools/install_dependencies.sh
if command -v ccache >/dev/null; then set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"; fi
cmake --preset release -DNALAB_WERROR=OFF "$@"  # else CMake's cache keeps what an earlier build asked for
cmake --build --preset release --target "$target"
