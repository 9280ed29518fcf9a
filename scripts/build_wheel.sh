#!/usr/bin/env bash
# Makes the wheel of the Python package out of a build folder, and installs it into virtual environments:
# build_wheel.sh FOLDER VENV... [-- MESON_OPTION...]. The options are those that the folder was configured with: what it holds is
# compiled no second time. The first environment has what builds wheels. The wheel is put into FOLDER/wheel.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

readonly FOLDER=$1
shift
environments=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  environments+=("$1")
  shift
done
settings=()
for option in "${@:2}"; do
  settings+=("-Csetup-args=$option")
done

pip() {
  "$1/bin/python" -I -m pip --disable-pip-version-check "${@:2}"
}

# No isolated environment, which would load what builds wheels from PyPI, without hashes.
rm -rf "$FOLDER/wheel"
pip "${environments[0]}" -v wheel --no-build-isolation --no-deps --no-index -w "$FOLDER/wheel" "-Cbuild-dir=$FOLDER" "${settings[@]}" .
for environment in "${environments[@]}"; do
  pip "$environment" install --no-deps --no-index --force-reinstall "$FOLDER"/wheel/*.whl
done
