#!/bin/sh
# Every source file stands in a list of CMake, and every file that is listed is there: the lists of a folder are its CMakeLists.txt and *.cmake, or those of
# the nearest folder above that has a CMakeLists.txt. Headers need no list.
# usage: sources.sh SOURCE_FOLDER          exit 0: in order; 1: each violation on a line
#        sources.sh --self-test            shows that violations are found
set -eu

# The words of a folder's lists that end like a source file, one a line.
listed() { # folder
    cat "$1"/CMakeLists.txt "$1"/*.cmake 2>/dev/null | sed 's/#.*//' | tr -s ' ()\t"' '\n' | grep -E '^[A-Za-z0-9_][A-Za-z0-9_/]*\.(c|cu|cpp|sh)$' | sort -u
}

check() { # folder with src/, tests/ …
    (
        cd "$1"
        folders=
        for folder in src tests bench examples; do
            [ ! -d $folder ] || folders="$folders $folder"
        done
        # shellcheck disable=SC2086
        find $folders -name '*.c' -o -name '*.cu' -o -name '*.cpp' | sort | while read -r file; do
            folder=$(dirname "$file")
            while [ ! -f "$folder/CMakeLists.txt" ] && [ "$folder" != . ]; do folder=$(dirname "$folder"); done
            listed "$folder" | grep -qxF "${file#"$folder"/}" || echo "$file: in no list of $folder/CMakeLists.txt"
        done
        # shellcheck disable=SC2086
        find $folders -name CMakeLists.txt | sort | while read -r list; do
            folder=$(dirname "$list")
            listed "$folder" | while read -r file; do
                [ -f "$folder/$file" ] || echo "$list: lists $file, which does not exist"
            done
        done
    )
}

self_test() {
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/src/ops/cuda" "$dir/tests/ops"
    printf 'flux1_module(ops\n  SOURCES\n    ops.c\n    cuda/cuda.c\n    cuda/kernels.cu\n  USES base) # not beside.c\n' >"$dir/src/ops/CMakeLists.txt"
    printf 'module_tests(ops\n  ops/test_ops.c)\ninclude(cuda.cmake)\n' >"$dir/tests/CMakeLists.txt"
    printf 'test_program(cuda ops/test_cuda.c ops)\n' >"$dir/tests/cuda.cmake"
    touch "$dir/src/ops/ops.c" "$dir/src/ops/ops.h" "$dir/src/ops/cuda/cuda.c" "$dir/src/ops/cuda/kernels.cu" "$dir/tests/ops/test_ops.c" "$dir/tests/ops/test_cuda.c"
    [ -z "$(check "$dir")" ] || { echo "self-test: a good tree was refused"; check "$dir"; exit 1; }
    touch "$dir/src/ops/beside.c" "$dir/src/ops/cuda.c" "$dir/src/ops/cuda/beside.cu" "$dir/tests/ops/test_beside.c"
    rm "$dir/src/ops/ops.c" "$dir/tests/ops/test_cuda.c"
    found=$(check "$dir" | wc -l)
    [ "$found" -eq 6 ] || { echo "self-test: 6 violations planted, $found found"; check "$dir"; exit 1; }
}

if [ "$1" = --self-test ]; then
    self_test
    exit 0
fi
violations=$(check "$1")
[ -z "$violations" ] || { echo "$violations"; exit 1; }
