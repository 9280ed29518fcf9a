#!/usr/bin/env bash
# Installs Python packages into the virtual environment, unless it has them: install_python.sh [REQUIREMENTS]. Those of the tests
# if no file is named.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

readonly REQUIREMENTS=${1:-scripts/check.requirements.txt}

# With hashes, and only wheels: nothing is built or executed here.
install_python() {
  "${VENV_PIP[@]}" install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r "$REQUIREMENTS" "$@"
}

make_venv
if install_python --no-index >build/pip-install.log 2>&1; then
  echo "All Python packages are installed."
elif ! index_answers numpy; then
  echo "PyPI does not answer (build/pip-index.log): what needs its packages cannot run."
  exit 1
else
  logged build/pip-install.log install_python --timeout 15 --retries 2
  tail -n 1 build/pip-install.log
fi
