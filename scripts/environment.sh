# What quickstart and check share: Debian's own tools, its packages, and a virtual environment. To be sourced.
# shellcheck shell=bash

# Debian's tools come first, whatever else is on PATH; what follows them (nvcc, for one) is still found.
export PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH"
export CC=gcc CXX=g++ LC_ALL=C.UTF-8
# Settings of other toolchains and Python installations that would leak into ours.
unset CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CPATH CPLUS_INCLUDE_PATH LIBRARY_PATH LD_LIBRARY_PATH LD_PRELOAD \
  PKG_CONFIG_PATH PKG_CONFIG_LIBDIR PYTHONHOME PYTHONPATH VIRTUAL_ENV

readonly PYTHON=/usr/bin/python3
readonly VENV=build/venv
# As a module: the script of that name has an absolute path in its first line, which breaks when the tree is moved.
readonly VENV_PIP=("$VENV/bin/python" -I -m pip --disable-pip-version-check)

BUILD_PACKAGES=(g++ meson ninja-build pkg-config flatbuffers-compiler libflatbuffers-dev libboost-dev libssl-dev
  libzstd-dev libbrotli-dev zlib1g-dev liblz4-dev nlohmann-json3-dev libcli11-dev libfmt-dev python3 python3-venv)
# shellcheck disable=SC2034  # used by check
CHECK_PACKAGES=("${BUILD_PACKAGES[@]}" catch2 clang-14 libclang-rt-14-dev lld-14 strace python3-zstandard python3-brotli python3-dev
  python3-numpy python3-torch abigail-tools cmake doxygen mandoc)

# Prints a heading with the seconds since the start.
step() {
  printf '\n[%3d s] %s\n' "$SECONDS" "$*"
}

# Runs a command with its output in the file $1, whose end is shown if it fails.
logged() {
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    printf 'failed: %s (all output: %s)\n' "$*" "$log" >&2
    return 1
  fi
}

# Prints the two lines of apt-get on what installing $@ would load and take. Needs no rights; installs nothing. Fails if a
# package is unknown.
package_sizes() {
  local plan
  plan=$(apt-get --print-uris --no-install-recommends install "$@" 2>/dev/null) || return 1
  grep -E '^(Need to get|After this operation)' <<<"$plan"
}

# Succeeds if `as_root` can work.
may_be_root() {
  # Without a terminal sudo must not ask for a password.
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

# Runs apt-get without questions; waits for another apt-get to end. All output goes to build/apt.log.
apt_get() {
  logged build/apt.log as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120 "$@"
}

# Prints those of the packages $@ that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      echo "$package"
    fi
  done
}

# Installs those of the Debian packages $@ that are missing, after it has printed their size. Without the rights to do so it
# prints the command that would, and fails.
install_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null; then
    echo "This script installs Debian packages; elsewhere see meson.build for what is needed." >&2
    return 1
  fi
  mapfile -t missing < <(missing_packages "$@")
  if [ ${#missing[@]} = 0 ]; then
    echo "All $# Debian packages are installed."
    return 0
  fi
  if ! may_be_root; then
    echo "${#missing[@]} Debian packages are missing, and only root can install them:"
    package_sizes "${missing[@]}" || true
    echo "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    return 1
  fi
  # A fresh Debian has no lists of packages.
  if ! package_sizes "${missing[@]}" >/dev/null; then
    apt_get update
  fi
  echo "Installing ${missing[*]}"
  package_sizes "${missing[@]}" || true
  # Old lists name versions that the servers no longer have.
  if ! apt_get --no-install-recommends install "${missing[@]}" 2>/dev/null; then
    apt_get update
    apt_get --no-install-recommends install "${missing[@]}"
  fi
}

# Makes the virtual environment $1 (else $VENV) with the options that follow, or keeps a working one.
make_venv() {
  local folder=${1:-$VENV}
  if ! "$folder/bin/python" -I -c 'import pip' 2>/dev/null; then
    rm -rf "$folder"
    logged build/venv.log "$PYTHON" -m venv "${@:2}" "$folder"
  fi
}

# Succeeds if the package index gives an answer on package $1 within 6 seconds; loads nothing.
index_answers() {
  timeout -k 1 6 "${VENV_PIP[@]}" index versions "$1" --timeout 3 --retries 0 >build/pip-index.log 2>&1
}
