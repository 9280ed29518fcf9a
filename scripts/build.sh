#!/usr/bin/env bash
# Configures a build folder, or configures it again, and compiles in it: build.sh FOLDER [MESON_OPTION]... [-- TARGET...].
set -euo pipefail

folder=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
targets=("${@:2}")

# A folder that cannot be configured again (it was moved, or made by another meson) is made anew. Only meson's own files go:
# build/ holds more than those.
if ! { [ -e "$folder/build.ninja" ] && meson setup --reconfigure "$folder" "${options[@]}"; }; then
  rm -rf "$folder"/meson-* "$folder/build.ninja" "$folder"/.ninja_*
  meson setup "$folder" "${options[@]}"
fi
ninja -C "$folder" "${targets[@]}"
