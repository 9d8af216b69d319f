#!/bin/bash
# bench/cuda: all.sh stops where the rest would be worthless and says why, with programs that only pretend; the real ones, packed, without a GPU; step_table.sh by hand.
# usage: bench_cuda.sh SOURCE BUILD
set -u
source=$1
build=$2
root=$(mktemp -d) && trap 'rm -rf "$root"' EXIT
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
expect() { # status, sentence: of the last all.sh
    [ "$code" -eq "$1" ] || fail "exit status $code instead of $1"
    grep -qF -- "$2" "$root/out" || { fail "not said: $2"; tail -n 5 "$root/out"; }
}
all() { OUT=$root/logs bash "$source/bench/cuda/all.sh" "$@" >"$root/out" 2>&1; code=$?; }

# ---- programs that pretend ----

pack=$root/pack
mkdir -p "$pack/tests" "$pack/lib"
echo v1 >"$pack/version"
cp "$source/bench/cuda/step_table.sh" "$pack/"
cat >"$pack/flux1" <<'END'
#!/bin/sh
[ "$1" = info ] && cat "$(dirname "$0")/devices.json" && exit 0
case "$*" in *"--variant schnell"*) exit 1 ;; esac # a timing that fails
echo '{"stages": [{'
printf '"stage": "dit step",\n"seconds": 0.1,\n"flops_per_second": 788e12,\n"activation_bytes": 1073741824,\n"held_weight_bytes": 2147483648\n'
echo '}]}'
END
devices() { # problem of cuda, of cuBLASLt, of cuDNN: "" is none
    {
        printf '{\n'
        [ -z "$1" ] || printf '  "no cuda": "%s",\n' "$1"
        printf '  "devices": [\n    {\n      "device": "cuda:0",\n      "name": "NVIDIA H100"\n    }\n  ],\n  "libraries of cuda": [\n'
        printf '    {\n      "library": "driver",\n      "version": "13.0",\n      "path": "/d",\n      "missing": null\n    },\n'
        local name why separator=,
        for name in cuBLASLt cuDNN; do
            why=$2
            [ $name = cuDNN ] && why=$3 && separator=
            if [ -n "$why" ]; then printf '    {\n      "library": "%s",\n      "version": null,\n      "path": null,\n      "missing": "%s"\n    }%s\n' $name "$why" "$separator"
            else printf '    {\n      "library": "%s",\n      "version": "13.1.0",\n      "path": "/l",\n      "missing": null\n    }%s\n' $name "$separator"; fi
        done
        printf '  ]\n}\n'
    } >"$pack/devices.json"
}
tests_end() { # exit statuses of checkops, goldens, bf16, fp8; the others end well
    local name
    for name in ops_test_weights_cuda ops_test_failures_cuda ops_test_packed_cuda; do printf '#!/bin/sh\nexit 0\n' >"$pack/tests/$name"; done
    for name in ops_test_checkops_cuda pipeline_test_goldens_cuda pipeline_test_bf16_cuda pipeline_test_fp8_cuda; do
        printf '#!/bin/sh\necho "data: $FLUX1_TEST_DATA"\nexit %s\n' "$1" >"$pack/tests/$name"
        shift
    done
    chmod +x "$pack/flux1" "$pack"/tests/*
}
tests_end 0 0 0 0
devices "no driver here" "" ""
all --binaries "$pack"
expect 2 "s: no GPU: no driver here"
devices "" "libcublasLt.so.13 is nowhere" ""
all --binaries "$pack"
expect 2 "s: no cuBLASLt: libcublasLt.so.13 is nowhere; name its folder in FLUX1_CUDA_LIBRARIES"
devices "" "" "libcudnn.so.9 is nowhere"
all --binaries "$pack"
expect 2 "s: no cuDNN: libcudnn.so.9 is nowhere"
devices "" "" ""
tests_end 1 0 0 0
all --binaries "$pack"
expect 2 "s: checkops: an entry is wrong, so no time means anything"
grep -q 'flux1 bench' "$root/out" && fail "timings after a wrong checkops"
tests_end 0 0 0 0
all --binaries "$pack" quick
expect 0 "0 failed"
[ "$(cat "$root/logs/goldens.log")" = "data: $pack/data" ] || fail "the tests' data are not the packed ones"
tests_end 0 1 0 0
all --binaries "$pack" quick
expect 1 "goldens          FAILED"
tests_end 0 0 0 0
all --binaries "$pack"
expect 1 "2 failed; driver 13.0, cuBLASLt 13.1.0, cuDNN 13.1.0" # the two of schnell
expect 1 "dev-dit          dit step          0.1000 s   788.0 TFLOP/s, 100.0 % of 788; arena   1.00 GiB, weights   2.00 GiB"
all --binaries "$root/nothing"
expect 1 "--binaries wants a folder that pack.sh made"
all --slow
expect 1 "usage: all.sh"

# ---- the real ones ----

PACK_LIMIT=$((1 << 20)) bash "$source/bench/cuda/pack.sh" "$build" "$root/none" >"$root/out" 2>&1 && fail "a pack above the limit is made"
grep -q 'bytes, more than 1048576' "$root/out" || { fail "the limit is not named"; cat "$root/out"; }
export PACK_LIMIT=$((256 << 20)) # the build may be for many architectures
bash "$source/bench/cuda/pack.sh" "$build" "$root/real" >"$root/out" 2>&1 || { fail "pack.sh"; cat "$root/out"; }
bash "$source/bench/cuda/pack.sh" "$build" "$root/real" >"$root/out" 2>&1 && fail "a pack is overwritten"
bash "$source/bench/cuda/pack.sh" "$root" "$root/none" >"$root/out" 2>&1 && fail "a build without programs is packed"
[ -e "$root/none" ] && fail "half a pack is left"
CUDA_VISIBLE_DEVICES= all --binaries "$root/real"
expect 2 "s: no GPU: device cuda"
for program in ops_test_checkops_cuda ops_test_weights_cuda ops_test_failures_cuda ops_test_packed_cuda pipeline_test_goldens_cuda pipeline_test_bf16_cuda pipeline_test_fp8_cuda; do # no library is lacking, none is the build machine's
    LD_LIBRARY_PATH=$root/real/lib ldd "$root/real/tests/$program" | awk -v lib="$root/real/lib/" '/not found/ || ($3 ~ "^/" && index($3, lib) != 1 && $1 !~ "^(libc|libm|libdl|librt|libpthread)[.]so") { print; bad = 1 } END { exit bad }' ||
        fail "$program: a library is not packed"
done

for folder in "$root"/real/data/pipelines/* "$root"/real/models/*; do # models are whole
    LD_LIBRARY_PATH=$root/real/lib "$root/real/flux1" info "$folder" >"$root/out" 2>&1 || { fail "packed ${folder##*/}"; tail -n 3 "$root/out"; }
done
[ -z "$(find -L "$root/real" -type l)" ] || fail "a packed link leads nowhere"

# ---- a step's table: 3.0e12 bytes a second, 780e12 FLOP/s ----

cat >"$root/events" <<'END'
{"stage": "dit opening", "rank": 0, "event": "compute", "operation": "cast", "batch": 1, "m": 9, "n": 9, "bytes_in": 9, "bytes_out": 9, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "cast", "batch": 1, "m": 1000, "n": 1500, "bytes_in": 3000000, "bytes_out": 6000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "product", "batch": 1, "m": 1000, "n": 1000, "k": 2000, "flops": 780000000.0, "bytes_in": 8004000, "bytes_out": 4000000, "bytes_weights": 4004000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "cast", "batch": 1, "m": 1000, "n": 1500, "bytes_in": 3000000, "bytes_out": 6000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "product", "batch": 1, "m": 1000, "n": 1000, "k": 2000, "flops": 780000000.0, "bytes_in": 8004000, "bytes_out": 4000000, "bytes_weights": 4004000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "finite", "batch": 1, "m": 1000, "n": 1000, "bytes_in": 4000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "layer_norm", "batch": 1, "m": 1000, "n": 1000, "bytes_in": 4000000, "bytes_out": 2000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "product", "batch": 1, "m": 1000, "n": 1000, "k": 2000, "flops": 780000000.0, "bytes_in": 8004000, "bytes_out": 4000000, "bytes_weights": 4004000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "finite", "batch": 1, "m": 1000, "n": 1000, "bytes_in": 4000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "layer_norm", "batch": 1, "m": 1000, "n": 500, "bytes_in": 4000000, "bytes_out": 2000000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "product", "batch": 1, "m": 1000, "n": 1000, "k": 2000, "flops": 780000000.0, "bytes_in": 8004000, "bytes_out": 4000000, "bytes_weights": 4004000, "arena": 0}
{"stage": "dit step", "rank": 0, "event": "compute", "operation": "layer_norm", "batch": 1, "m": 1000, "n": 1000, "bytes_in": 4000000, "bytes_out": 2000000, "arena": 0}
END
# the product: 2 * (1000 * 2000 + 1000 * 1000) + 4004000 = 10.004 MB, 3.3 us, longer than 1 us of FLOPs; exit: 10 * 10^6 bytes, 3.3 us; with its norm 12 * 10^6
bash "$source/bench/cuda/step_table.sh" "$root/events" h100 >"$root/out"
cat >"$root/wanted" <<'END'
| launch | count | MB | GFLOP | µs each | ms |
|---|---|---|---|---|---|
| cast 1000 x 1500 | 2 | 9.0 |  | 3.0 | 0.01 |
| product 1000 x 1000 x 2000 | 4 | 10.0 | 0.8 | 3.3 | 0.01 |
| exit 1000 x 1000 | 2 | 10.0 |  | 3.3 | 0.01 |
| epilogue_norm 1000 x 1000 | 2 | 12.0 |  | 4.0 | 0.01 |
| finite 1000 x 1000 | 1 | 4.0 |  | 1.3 | 0.00 |
| layer_norm 1000 x 500 | 1 | 6.0 |  | 2.0 | 0.00 |
| **sum** | 12 | | 3 | | **0.0** |
END
cmp -s "$root/out" "$root/wanted" || { fail "the table"; diff "$root/wanted" "$root/out"; }
bash "$source/bench/cuda/step_table.sh" "$root/events" gpu9 2>/dev/null && fail "rates of a GPU that nobody knows"
bash "$source/bench/cuda/step_table.sh" "$root/events" h100 "vae" 2>/dev/null && fail "a stage without events"

[ $failures -eq 0 ] && echo "all as it should be"
exit $((failures > 0))
