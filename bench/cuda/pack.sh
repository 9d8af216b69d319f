#!/bin/bash
# Packs what bench/cuda/all.sh runs into one folder that a machine with a GPU needs nothing else for but NVIDIA's driver and libraries: stripped programs, their
# libraries (all but libc's own), the tests' data, the mini models, all.sh itself. There: DIR/all.sh --binaries DIR
# usage: bench/cuda/pack.sh BUILD DIR       BUILD: a build folder with FLUX1_CUDA=ON; DIR must not exist
# environment: PACK_LIMIT (100663296): most bytes of the pack
set -eu
LIMIT=${PACK_LIMIT:-$((96 << 20))} # bytes
fail() { echo "pack.sh: $*" >&2; exit 1; }
[ $# -eq 2 ] || fail "usage: pack.sh BUILD DIR"
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
pack=$2
[ ! -e "$pack" ] || fail "$pack is there already"
programs="flux1 tests/ops_test_checkops_cuda tests/ops_test_weights_cuda tests/ops_test_failures_cuda tests/ops_test_packed_cuda tests/pipeline_test_goldens_cuda tests/pipeline_test_bf16_cuda tests/pipeline_test_fp8_cuda"
for program in $programs; do
    [ -x "$build/$program" ] || fail "$build/$program is not there: ninja -C $build $(for p in $programs; do printf '%s ' "${p##*/}"; done)"
done

whole=no
trap '[ $whole = yes ] || rm -rf "$pack"' EXIT
mkdir -p "$pack/tests" "$pack/lib" "$pack/data/goldens" "$pack/data/pipelines" "$pack/models"
for program in $programs; do
    strip -o "$pack/$program" "$build/$program"
    missing=$(ldd "$build/$program" | awk '/not found/ { print $1 }')
    [ -z "$missing" ] || fail "$program needs $missing, which is not found here"
    ldd "$build/$program" | awk '$2 == "=>" && $3 ~ "^/" && $1 !~ "^(libc|libm|libdl|librt|libpthread)[.]so" { print $3 }'
done | sort -u | while read -r library; do cp -L "$library" "$pack/lib/"; done
cp -R "$source"/tests/data/goldens/{dev,schnell,single,double,mixed,patchwork,wide,fp8,mini} "$pack/data/goldens/"
cp -RL "$source"/tests/data/pipelines/{dev,schnell,single,double,mixed,patchwork,wide} "$pack/data/pipelines/" # their links lead to folders that stay behind
cp -R "$source"/models/mini-* "$pack/models/" # their links lead to each other
cp "$source/bench/cuda/all.sh" "$source/bench/cuda/step_table.sh" "$pack/"
git -C "$source" describe --always --dirty >"$pack/version" 2>/dev/null || echo unknown >"$pack/version"
bytes=$(find "$pack" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
[ "$bytes" -le $LIMIT ] || fail "the pack has $bytes bytes, more than $LIMIT: was it built for several architectures? (-DFLUX1_CUDA_ARCHITECTURES=90a)"
whole=yes
echo "$pack: $((bytes >> 20)) MiB"
