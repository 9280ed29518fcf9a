#!/usr/bin/env bash
# Configures the Python package with today's Meson from PyPI as `pip install .` does, and compiles the extension module's own files
# and nanobind, without optimisation: what differs between Mesons is what they make of the build files. --whole compiles all and
# makes the wheel. Needs build/venv.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

readonly FOLDER=build/check-meson FLAGS=(-Dbuildtype=plain -Doptimization=0)

scripts/install_python.sh scripts/meson.requirements.txt build/venv-meson
PATH="$PWD/build/venv-meson/bin:$PATH"
meson --version
if [ "${1:-}" = --whole ]; then
  exec "$VENV/bin/python" scripts/build_wheel.py "$FOLDER" "${FLAGS[@]}"
fi
scripts/build.sh "$FOLDER" "${FLAGS[@]}" -Ddefault_library=static -Dcuda=disabled -Dtests=false -Dpython=true -Dwerror=false \
  "-Dpython_path=$PWD/$VENV/bin/python" -- libcdna/cdna_generated.h
mapfile -t objects < <(ninja -C "$FOLDER" -t targets all | sed -n 's/^\(bindings\/python\/.*\.o\):.*/\1/p')
ninja -C "$FOLDER" "${objects[@]}"
