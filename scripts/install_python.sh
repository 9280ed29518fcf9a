#!/usr/bin/env bash
# Installs Python packages into a virtual environment, unless it has them: install_python.sh [REQUIREMENTS [FOLDER [OPTION...]]].
# Those of the tests into build/venv if nothing is named; the options are those of `python -m venv`.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

readonly REQUIREMENTS=${1:-scripts/check.requirements.txt} FOLDER=${2:-$VENV}
readonly LOG=build/pip-install-${FOLDER##*/}.log

# With hashes, and only wheels: nothing is built or executed here.
install_python() {
  "$FOLDER/bin/python" -I -m pip --disable-pip-version-check install --no-cache-dir --no-deps --only-binary :all: \
    --require-hashes -r "$REQUIREMENTS" "$@"
}

make_venv "$FOLDER" "${@:3}"
if install_python --no-index >"$LOG" 2>&1; then
  echo "All Python packages are installed."
elif ! make_venv || ! index_answers numpy; then
  echo "PyPI does not answer (build/pip-index.log): what needs its packages cannot run."
  exit 1
else
  logged "$LOG" install_python --timeout 15 --retries 2
  tail -n 1 "$LOG"
fi
