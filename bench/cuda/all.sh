#!/bin/bash
# Everything that wants a GPU, in one call of under eight minutes: what the rest depends on first, then correctness, then timings, a table at the end. Stops where the
# rest would be worthless: no driver, no cuBLASLt, no cuDNN, checkops wrong (exit status 2). Leaves logs and JSON in OUT (default: bench-cuda).
# usage: bench/cuda/all.sh [--binaries DIR] [quick]       quick: correctness only
#        --binaries DIR  runs the programs that bench/cuda/pack.sh packed into DIR; otherwise they are built here, from the repository
# environment: BUILD, OUT, PEER (a Python with torch and diffusers, to time them in the same call), FLUX1_CUDA_LIBRARIES (folders of NVIDIA's libraries)
set -u
binaries=
quick=no
while [ $# -gt 0 ]; do
    case $1 in
    --binaries) [ $# -gt 1 ] && [ -x "$2/flux1" ] || { echo "all.sh: --binaries wants a folder that pack.sh made" >&2; exit 1; }
        binaries=$(cd "$2" && pwd)
        shift ;;
    quick) quick=yes ;;
    *) echo "usage: all.sh [--binaries DIR] [quick]" >&2; exit 1 ;;
    esac
    shift
done
out=${OUT:-bench-cuda}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
began=$SECONDS
step() { printf '\n== %4d s  %s\n' $((SECONDS - began)) "$*"; }
stop() { printf '\nstopped after %d s: %s\n' $((SECONDS - began)) "$*"; exit 2; }

if [ -n "$binaries" ]; then
    flux1=$binaries/flux1
    tests=$binaries/tests
    export FLUX1_TEST_DATA=$binaries/data FLUX1_TEST_MODELS=$binaries/models FLUX1_MODELS=$binaries/models
    libraries=$binaries/lib
    here=$binaries
    echo "version $(cat "$binaries/version")"
else
    cd "$(dirname "$0")/../.." || exit 1
    build=${BUILD:-build-cuda}
    step "build"
    cmake -S . -B "$build" -G Ninja -DFLUX1_CUDA=ON >"$out/configure.log" 2>&1 && ninja -C "$build" flux1 ops_test_{checkops,failures,packed,weights}_cuda pipeline_test_goldens_cuda pipeline_test_bf16_cuda pipeline_test_fp8_cuda >"$out/build.log" 2>&1 ||
        { tail -n 30 "$out/configure.log" "$out/build.log"; exit 1; }
    flux1=$PWD/$build/flux1
    tests=$PWD/$build/tests
    libraries=
    here=$PWD/bench/cuda
fi
run() { if [ -n "$libraries" ]; then LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"; else "$@"; fi; } # the packed libraries for our programs alone

# ---- what all depends on ----

step "devices"
run "$flux1" info --devices 2>&1 | tee "$out/devices.txt"
run "$flux1" info --devices --json >"$out/devices.json" 2>/dev/null || stop "flux1 does not run here (devices.txt)"
field() { awk -F'": ' -v library="$1" -v key="$2" '$1 ~ "\"library$" { name = $2; gsub("[\",]", "", name) } name == library && $1 ~ "\"" key "$" && $2 !~ "^null" { gsub("^\"|\",?$", "", $2); print $2 }' "$out/devices.json"; }
none=$(awk -F'": ' '$1 ~ "\"no cuda$" { gsub("^\"|\",?$", "", $2); print $2 }' "$out/devices.json")
[ -z "$none" ] || stop "no GPU: $none"
grep -q '"device": "cuda:0"' "$out/devices.json" || stop "this build of flux1 has no CUDA backend, or the GPU has a problem (devices.json)"
for library in cuBLASLt cuDNN; do
    [ -n "$(field $library path)" ] || stop "no $library: $(field $library missing); name its folder in FLUX1_CUDA_LIBRARIES"
done

# ---- correctness: programs beside each other ----

failed=0
names="checkops weights failures packed goldens bf16 fp8"
declare -A process ended
begin() { # name, command…
    local name=$1
    shift
    (
        SECONDS=0
        run "$@" >"$out/$name.log" 2>&1
        code=$?
        echo $SECONDS >"$out/$name.seconds"
        exit $code
    ) &
    process[$name]=$!
}
step "$names"
for name in checkops weights failures packed; do begin $name "$tests/ops_test_${name}_cuda" --gpu; done
begin goldens env FLUX1_TEST_GPU=1 "$tests/pipeline_test_goldens_cuda"
begin bf16 env FLUX1_TEST_GPU=1 "$tests/pipeline_test_bf16_cuda"
begin fp8 env FLUX1_TEST_GPU=1 "$tests/pipeline_test_fp8_cuda"
for name in $names; do
    wait "${process[$name]}"
    ended[$name]=$?
    step "$name: exit status ${ended[$name]}"
    if [ "${ended[$name]}" -ne 0 ]; then
        failed=$((failed + 1))
        echo FAILED
        grep -E 'error|ERROR|FAILED' "$out/$name.log" | head -n 20
    fi
    tail -n 12 "$out/$name.log"
done
correctness() { for name in $names; do printf '%-16s %s, %s s\n' "$name" "$([ "${ended[$name]}" -eq 0 ] && echo passed || echo FAILED)" "$(cat "$out/$name.seconds")"; done; }
[ "${ended[checkops]}" -eq 0 ] || { correctness; stop "checkops: an entry is wrong, so no time means anything (checkops.log)"; }
[ $quick = no ] || { step "$failed failed"; correctness; exit $((failed > 0)); }

# ---- timings ----

timings=
bench() { # name, flux1 bench's arguments
    local name=$1
    shift
    step "$name: flux1 bench $*"
    timings="$timings $name"
    run timeout 150 "$flux1" bench --device cuda --json "$@" >"$out/$name.json" 2>"$out/$name.err" || { echo "FAILED"; cat "$out/$name.err"; failed=$((failed + 1)); }
    rows "$name"
}
# 788 TFLOP/s: ten large bf16 products by cuBLASLt on an H200, the floor that shares are counted against
rows() {
    awk -F'[:,]' -v name="$1" '/"stage"/ { stage = $2; gsub(/^ *"|"/, "", stage) } /"seconds"/ { s = $2 } /"flops_per_second"/ && stage { rate = $2 } /"activation_bytes"/ { memory = $2 }
        /"held_weight_bytes"/ { printf "%-16s %-14s %9.4f s %7.1f TFLOP/s, %5.1f %% of 788; arena %6.2f GiB, weights %6.2f GiB\n", name, stage, s, rate / 1e12, rate / 7.88e12, memory / 2^30, $2 / 2^30 }' "$out/$1.json"
}
dev="--variant dev --width 1024 --height 1024 --steps 28 --max-sequence-length 512"
schnell="--variant schnell --width 1024 --height 1024 --steps 4 --max-sequence-length 256"
bench dev-dit $dev --stage dit --repeats 28
bench schnell-dit $schnell --stage dit --repeats 12
bench dev-eager $dev --stage dit --repeats 12 --capture no
bench dev-fp8 $dev --stage dit --repeats 28 --dtype fp8
bench schnell-fp8 $schnell --stage dit --repeats 12 --dtype fp8
bench dev-vae $dev --stage vae --repeats 5
bench dev-t5 $dev --stage t5 --repeats 5
bench dev-clip $dev --stage clip --repeats 5
step "entries at true size"
run timeout 120 "$tests/ops_test_checkops_cuda" --gpu --bench | tee "$out/entries.txt"
step "packed weights, decoded"
run timeout 60 "$tests/ops_test_packed_cuda" --gpu --bench | tee "$out/decode.txt"
step "a step, launch by launch, as planned for an H200"
run "$flux1" bench --device cuda $dev --stage dit --repeats 0 --events "$out/dev.events" >/dev/null && sh "$here/step_table.sh" "$out/dev.events" h200 >"$out/step.md" && tail -n 4 "$out/step.md"

if [ -n "${PEER:-}" ] && [ -z "$binaries" ]; then
    step "diffusers, in the same call"
    timeout 200 "$PEER" tools/peer_diffusers.py --variant dev --compile default >"$out/diffusers.json" 2>"$out/diffusers.err" || tail -n 5 "$out/diffusers.err"
    cat "$out/diffusers.json"
fi

step "$failed failed; driver $(field driver version), cuBLASLt $(field cuBLASLt version), cuDNN $(field cuDNN version), NCCL $(field NCCL version)"
awk -F'": ' '$1 ~ "\"name$" && $2 ~ "NVIDIA" { print $2 }' "$out/devices.json"
correctness
for name in $timings; do rows "$name"; done
exit $((failed > 0))
