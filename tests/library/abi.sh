#!/bin/sh
# The shared library's interface, as flux1.h declares it, is the one of the baseline, which abidw (Debian: abigail-tools) wrote. It was made on x86_64.
# usage: abi.sh libflux1.so INCLUDE_FOLDER BASELINE             exit 0: the same; 77: abidiff or debug information is missing
#        abi.sh --accept libflux1.so INCLUDE_FOLDER BASELINE    writes the baseline
set -eu
accept=
[ "$1" != --accept ] || { accept=1; shift; }
library=$1 include=$2 baseline=$3
command -v abidiff >/dev/null || { echo "skipped: abidiff is not installed (abigail-tools)"; exit 77; }
[ "$(uname -m)" = x86_64 ] || { echo "skipped: the baseline is of x86_64"; exit 77; }
readelf -S "$library" | grep -q '\.debug_info' || { echo "skipped: the library has no debug information"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/include"
cp "$include/flux1.h" "$dir/include"
# flux1_tools.h is not stable: only functions that flux1.h declares are looked at
{ echo '[abi_whitelist]'; sed '/^#/d' "$include/flux1.h" | tr '\n' ' ' | grep -o 'FLUX1_API [^;(]*(' | sed 's/($//; s/.*[ *]/  /' | sort -u; } >"$dir/functions"
abidw --headers-dir "$dir/include" --drop-private-types --drop-undefined-syms --no-corpus-path --no-comp-dir-path --no-show-locs --short-locs \
    --kmi-whitelist "$dir/functions" --out-file "$dir/all" "$library"
sed '/<elf-needed>/,/<\/elf-needed>/d' "$dir/all" >"$dir/now" # builds may differ in what they link
if [ -n "$accept" ]; then
    cp "$dir/now" "$baseline"
    exit 0
fi
if ! abidiff --harmless "$baseline" "$dir/now" >"$dir/difference"; then
    cat "$dir/difference"
    echo "The interface differs from $baseline: docs/releases.md says what to do."
    exit 1
fi
