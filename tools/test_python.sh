#!/usr/bin/env bash
# tools/test_python.sh: the Python package as pip installs it, with the newest PyTorch and NumPy, and programs from PyPI that
# were written for natten. Downloads several GB into build/python-newest; docs/python.md says when it passed last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_dependencies.sh python3-dev python3-venv
# With the compiler by the name that ccache knows from tools/build.sh, so that nothing is compiled twice.
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache CXX=/usr/bin/c++; fi
environment=$PWD/build/python-newest
[[ -x $environment/bin/pip ]] || /usr/bin/python3 -m venv "$environment"
pip() { "$environment/bin/pip" --disable-pip-version-check "$@"; }
pip install -q .
pip install -q --upgrade torch numpy ml_dtypes jax pandas h5py pytest hydra-core omegaconf einops dacite \
  'transformers==4.40.2' 'huggingface-hub<1' 'setuptools<81'
pip install -q --no-deps 'allin1==1.1.0' 'graph-weather==1.0.146'

# check FILES...: pytest in a process of its own, since a program's natten is chosen when it is imported.
check() { "$environment/bin/python" -m pytest -q -p no:cacheprovider "$@"; }
check tests/python
for program in tests/python/programs/*_check.py; do check "$program"; done
"$environment/bin/python" -c 'import nalab, numpy, sys, torch; print(
  f"nalab {nalab.__version__}: passed with Python {sys.version.split()[0]}, PyTorch {torch.__version__}, NumPy {numpy.__version__}")'
