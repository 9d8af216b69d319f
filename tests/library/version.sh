#!/bin/sh
# One version: of the build file, the header, the change log, the man page, the program, the library and its soname, the pkg-config file, the Python package where
# it is built beside the pkg-config file. docs/releases.md has the rule.
# usage: version.sh SOURCE_FOLDER FLUX1 libflux1.so flux1.pc
set -eu
source=$1 program=$2 library=$3 pc=$4
status=0
version=$(sed -n 's/^project(flux1 VERSION \([0-9.]*\) .*/\1/p' "$source/CMakeLists.txt")
[ -n "$version" ] || { echo "CMakeLists.txt: no version"; exit 1; }
major=${version%%.*}

same() { # what, what it should be, what it is
    [ "$2" = "$3" ] || { echo "$1: $3, but CMakeLists.txt says $version"; status=1; }
}
macro() { sed -n "s/^#define FLUX1_VERSION_$1 \([0-9]*\)\$/\1/p" "$source/include/flux1.h"; }

same include/flux1.h "$version" "$(macro MAJOR).$(macro MINOR).$(macro PATCH)"
same "the newest entry of CHANGELOG.md" "$version" "$(sed -n 's/^## \([^ ]*\).*/\1/p' "$source/CHANGELOG.md" | head -n 1)"
same docs/flux1.1 "flux1 $version" "$(sed -n 's/^\.TH .*"\(flux1 [0-9.]*\)".*/\1/p' "$source/docs/flux1.1")"
same docs/python.md "$version" "$(sed -n 's/.*flux1-\([0-9.]*\)-py3-none.*/\1/p' "$source/docs/python.md" | sort -u)"
same "flux1 --version" "$version" "$("$program" --version | sed -n '1s/^flux1 \([0-9.]*\).*/\1/p')"
same "$pc" "$version" "$(sed -n 's/^Version: //p' "$pc")"
same "the soname" "libflux1.so.$major" "$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')"
same "the library's file" "libflux1.so.$version" "$(basename "$(readlink -f "$library")")"
same "the symbols' version" "FLUX1_$major" "$(nm -D --defined-only "$library" | sed -n 's/.*@@\(.*\)/\1/p' | sort -u)"
python=$(dirname "$pc")/python/flux1/_interface.py
[ ! -e "$python" ] || same "$python" "$version" "$(sed -n 's/^VERSION = (\([0-9]*\), \([0-9]*\), \([0-9]*\))$/\1.\2.\3/p' "$python")"
exit $status
