#!/bin/sh
# Each public header compiles alone, pedantically, as C11 and as C++. usage: header.sh INCLUDE_FOLDER CC [CXX]
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for header in flux1.h flux1_tools.h; do
    printf '#include "%s"\n' $header >"$dir/c.c"
    "$2" -std=c11 -pedantic -Wall -Wextra -Werror -I"$1" -fsyntax-only "$dir/c.c"
    if [ -n "${3:-}" ]; then
        cp "$dir/c.c" "$dir/cxx.cc"
        "$3" -std=c++11 -pedantic -Wall -Wextra -Werror -I"$1" -fsyntax-only "$dir/cxx.cc"
    else
        echo "note: no C++ compiler here, C++ is not tested"
    fi
done
