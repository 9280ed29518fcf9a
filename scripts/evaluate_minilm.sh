#!/usr/bin/env bash
# Builds the tools and measures what every preset does to all-MiniLM-L6-v2 and its sentence embeddings. Can be run again.
# Options go to scripts/minilm/evaluate.py: --presets cb8,cb4g32, --embeddings exact,cb8,same, --noise 44, --out FOLDER.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
# shellcheck source=scripts/model.sh
source scripts/model.sh

mkdir -p build
install_packages "${BUILD_PACKAGES[@]}"
echo "Building (log: build/build.log)"
logged build/build.log scripts/build.sh build -Dbuildtype=release -Dtools=true -Dtests=false -- tools/cdna tools/cdna-inspect
scripts/install_python.sh scripts/minilm/requirements.txt
get_minilm
PYTHONDONTWRITEBYTECODE=1 exec "$VENV/bin/python" scripts/minilm/evaluate.py "$MINILM" build/tools "$@"
