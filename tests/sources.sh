#!/bin/sh
# Every source file stands in a list of CMake, and every file that is listed is there: the lists of a folder are its CMakeLists.txt and *.cmake, or those of
# a folder above it. Headers need no list. Files that a list has one a line are sorted.
# usage: sources.sh SOURCE_FOLDER          exit 0: in order; 1: each violation on a line
#        sources.sh --self-test            shows that violations are found
set -eu
LC_ALL=C
export LC_ALL

# The words of a folder's lists that end like a source file, one a line.
listed() { # folder
    cat "$1"/CMakeLists.txt "$1"/*.cmake 2>/dev/null | sed 's/#.*//' | tr -s ' ()\t"' '\n' | grep -E '^[A-Za-z0-9_][A-Za-z0-9_/]*\.(c|cu|cpp|sh)$' | sort -u
}

# Each file of a list that is not behind the line before it.
unsorted() { # list
    awk -v list="$1" '
    !/^ +[A-Za-z0-9_\/]+[.](c|cu|cpp|h|sh)[)]?$/ { before = ""; next }
    {
        file = $1
        sub(/[)]/, "", file)
        if (file "" < before "") print list ": " file " should come before " before
        before = file
    }' "$1"
}

check() { # folder with src/, tests/ …
    (
        cd "$1"
        folders='' dir=$(mktemp -d)
        trap 'rm -rf "$dir"' EXIT
        for folder in src tests bench examples; do
            [ ! -d $folder ] || folders="$folders $folder"
        done
        # shellcheck disable=SC2086
        find $folders -name '*.c' -o -name '*.cu' -o -name '*.cpp' | sort >"$dir/files"
        # shellcheck disable=SC2086
        find $folders -name CMakeLists.txt | while read -r list; do
            listed "$(dirname "$list")" | sed "s|^|$(dirname "$list")/|"
        done | sort -u >"$dir/listed"
        comm -23 "$dir/files" "$dir/listed" | sed 's/$/: in no list of a CMakeLists.txt above it/'
        comm -13 "$dir/files" "$dir/listed" | while read -r file; do
            [ -f "$file" ] || echo "$file: listed, but does not exist"
        done
        # shellcheck disable=SC2086
        find $folders -name CMakeLists.txt -o -name '*.cmake' | sort | while read -r list; do
            unsorted "$list"
        done
    )
}

self_test() {
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/src/ops/cuda" "$dir/tests/ops"
    printf 'flux1_module(ops\n  SOURCES\n    cuda/cuda.c\n    cuda/kernels.cu\n    ops.c\n  USES base) # not beside.c\n' >"$dir/src/ops/CMakeLists.txt"
    printf 'module_tests(ops\n  ops/test_ops.c)\ninclude(cuda.cmake)\n' >"$dir/tests/CMakeLists.txt"
    printf 'test_program(cuda ops/test_cuda.c ops)\n' >"$dir/tests/cuda.cmake"
    touch "$dir/src/ops/ops.c" "$dir/src/ops/ops.h" "$dir/src/ops/cuda/cuda.c" "$dir/src/ops/cuda/kernels.cu" "$dir/tests/ops/test_ops.c" "$dir/tests/ops/test_cuda.c"
    [ -z "$(check "$dir")" ] || { echo "self-test: a good tree was refused"; check "$dir"; exit 1; }
    touch "$dir/src/ops/beside.c" "$dir/src/ops/cuda.c" "$dir/src/ops/cuda/beside.cu" "$dir/tests/ops/test_beside.c"
    rm "$dir/src/ops/ops.c" "$dir/tests/ops/test_cuda.c"
    found=$(check "$dir" | wc -l)
    [ "$found" -eq 6 ] || { echo "self-test: 6 violations planted, $found found"; check "$dir"; exit 1; }
    printf 'flux1_module(more\n  SOURCES\n    ops/cuda.c\n    ops/cuda/beside.cu\n    ops/beside.c)\n' >"$dir/src/more.cmake"
    check "$dir" | grep -q '^src/more.cmake: ops/beside.c should come before ops/cuda/beside.cu$' || { echo "self-test: a list out of order was not found"; check "$dir"; exit 1; }
}

if [ "$1" = --self-test ]; then
    self_test
    exit 0
fi
violations=$(check "$1")
[ -z "$violations" ] || { echo "$violations"; exit 1; }
