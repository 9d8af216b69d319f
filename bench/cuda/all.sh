#!/bin/bash
# Everything that wants a GPU, in one call of under eight minutes: what was never run first, correctness before timings. Leaves a table on standard output and JSON in
# OUT (default: a folder bench-cuda). Run it from the repository's root on a machine with CUDA 13, cuDNN 9 and an NVIDIA driver.
# usage: bench/cuda/all.sh [quick]       quick: correctness only        environment: BUILD, OUT, PEER (a Python with torch and diffusers, to time them in the same call)
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build-cuda}
out=${OUT:-bench-cuda}
mkdir -p "$out"
began=$SECONDS
step() { printf '\n== %4d s  %s\n' $((SECONDS - began)) "$*"; }

step "build"
cmake -S . -B "$build" -G Ninja -DFLUX1_CUDA=ON >"$out/configure.log" 2>&1 && ninja -C "$build" flux1 ops_test_checkops_cuda pipeline_test_goldens_cuda pipeline_test_bf16_cuda pipeline_test_fp8_cuda >"$out/build.log" 2>&1 ||
    { tail -n 30 "$out/configure.log" "$out/build.log"; exit 1; }
"$build/flux1" info --devices | tee "$out/devices.txt"

failed=0
correct() { # name, command…
    local name=$1
    shift
    step "$name"
    "$@" >"$out/$name.log" 2>&1 || { failed=$((failed + 1)); echo "FAILED"; grep -E 'error|ERROR|FAILED' "$out/$name.log" | head -n 20; }
    tail -n 25 "$out/$name.log"
}
correct checkops "$build/tests/ops_test_checkops_cuda" --gpu
correct goldens env FLUX1_TEST_GPU=1 "$build/tests/pipeline_test_goldens_cuda"
correct bf16 env FLUX1_TEST_GPU=1 "$build/tests/pipeline_test_bf16_cuda"
correct fp8 env FLUX1_TEST_GPU=1 "$build/tests/pipeline_test_fp8_cuda"
step "entries at true size"
timeout 120 "$build/tests/ops_test_checkops_cuda" --gpu --bench | tee "$out/entries.txt"
[ "${1:-}" = quick ] && { step "$failed failed"; exit $((failed > 0)); }

bench() { # name, flux1 bench's arguments
    local name=$1
    shift
    step "$name: flux1 bench $*"
    timeout 150 "$build/flux1" bench --device cuda --json "$@" >"$out/$name.json" 2>"$out/$name.err" || { echo "FAILED"; cat "$out/$name.err"; failed=$((failed + 1)); }
    # 788 TFLOP/s: ten large bf16 products by cuBLASLt on an H200, the floor that shares are counted against
    awk -F'[:,]' '/"stage"/ { stage = $2 } /"seconds"/ { s = $2 } /"flops_per_second"/ && stage { rate = $2 } /"activation_bytes"/ { memory = $2 }
        /"held_weight_bytes"/ { printf "%-16s %9.4f s %7.1f TFLOP/s, %5.1f %% of 788; arena %6.2f GiB, weights %6.2f GiB\n", stage, s, rate / 1e12, rate / 7.88e12, memory / 2^30, $2 / 2^30 }' "$out/$name.json"
}
bench schnell --variant schnell --width 1024 --height 1024 --steps 4 --max-sequence-length 256 --repeats 12
bench dev --variant dev --width 1024 --height 1024 --steps 28 --max-sequence-length 512 --repeats 28
bench schnell-fp8 --variant schnell --stage dit --width 1024 --height 1024 --steps 4 --max-sequence-length 256 --repeats 12 --dtype fp8
bench dev-fp8 --variant dev --stage dit --width 1024 --height 1024 --steps 28 --max-sequence-length 512 --repeats 28 --dtype fp8
bench dev-eager --variant dev --stage dit --width 1024 --height 1024 --steps 28 --max-sequence-length 512 --repeats 12 --capture no

if [ -n "${PEER:-}" ]; then
    step "diffusers, in the same call"
    timeout 200 "$PEER" tools/peer_diffusers.py --variant dev --compile default >"$out/diffusers.json" 2>"$out/diffusers.err" || tail -n 5 "$out/diffusers.err"
    cat "$out/diffusers.json"
fi
step "$failed failed"
exit $((failed > 0))
