#!/usr/bin/env bash
# Installs what nalab needs to be built, from Debian 12's packages. Does nothing, quickly, where all is there.
set -euo pipefail

packages=(
  g++ cmake ninja-build git ca-certificates
  libhwy-dev libhdf5-dev libyaml-cpp-dev libcli11-dev libfmt-dev libre2-dev libutfcpp-dev nlohmann-json3-dev libdnnl-dev
  libgtest-dev libgmock-dev libbenchmark-dev gnuplot-nox
  "$@"
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ii* ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "Missing: ${missing[*]}; install them, or run this as root or with sudo." >&2; exit 1; }
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
