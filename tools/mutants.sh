#!/usr/bin/env bash
# tools/mutants.sh [OPTIONS]: how many deliberate mistakes the tests catch; --help says more.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/mutants.py" "$@"
