#!/usr/bin/env bash
# tools/build.sh [CMAKE_OPTIONS...]: installs what is missing, configures and builds the release preset.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_dependencies.sh
if command -v ccache >/dev/null; then set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"; fi
cmake --preset release "$@"
cmake --build --preset release
