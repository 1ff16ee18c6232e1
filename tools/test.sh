#!/usr/bin/env bash
# tools/test.sh [CMAKE_OPTIONS...]: from a clean clone to the verdict of all tests, those of the Python package among them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_dependencies.sh python3-dev python3-venv python3-pytest python3-numpy python3-h5py python3-torch
# Debian's Python with its packages, and what Debian lacks. ml_dtypes: later ones want a later NumPy.
environment=build/python
[[ -x $environment/bin/pip ]] || /usr/bin/python3 -m venv --system-site-packages "$environment"
"$environment/bin/pip" install -q --disable-pip-version-check 'nanobind>=3' 'nanobind-backend>=1' 'ml_dtypes<0.6'

tools/build.sh all -DNALAB_BUILD_PYTHON=ON -DPython_EXECUTABLE="$PWD/$environment/bin/python" "$@"
ctest --preset release -j "$(nproc)"
