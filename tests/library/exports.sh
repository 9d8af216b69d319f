#!/bin/sh
# Both libraries export flux1_* and nothing else, and all that the public headers declare.
# usage: exports.sh libflux1.a libflux1.so INCLUDE_FOLDER
set -eu
LC_ALL=C
export LC_ALL
status=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nm -g --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u >"$dir/static"
nm -D --defined-only "$2" | awk 'NF == 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$dir/shared"
sed '/^#/d' "$3/flux1.h" "$3/flux1_tools.h" | tr '\n' ' ' | grep -o 'FLUX1_API [^;(]*(' | sed 's/($//; s/.*[ *]//' | sort -u >"$dir/declared"
[ -s "$dir/declared" ] || { echo "no declarations found"; exit 1; }
for kind in static shared; do
    if grep -v '^flux1_' "$dir/$kind"; then
        echo "  … exported by the $kind library, but not flux1_*"
        status=1
    fi
    if comm -23 "$dir/declared" "$dir/$kind" | grep .; then
        echo "  … declared, but not exported by the $kind library"
        status=1
    fi
    if comm -13 "$dir/declared" "$dir/$kind" | grep .; then
        echo "  … exported by the $kind library, but not declared"
        status=1
    fi
done
readelf -d "$2" | grep -q 'SONAME.*libflux1\.so\.0' || { echo "the shared library's soname is not libflux1.so.0"; status=1; }
exit $status
