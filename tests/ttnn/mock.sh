#!/bin/sh
# All of FLUX.1 at full size, as the worker asks the vendor's library for it, on machines that are not here (mock mode): every call, L1 and DRAM are checked by
# the library, nothing is computed; the memory is compared with what flux1 plan says. Skipped without FLUX1_TTNN_PYTHON, an environment that prepare.sh made.
# usage: mock.sh FLUX1 MACHINE WEIGHTS LINKS MOST        MOST: MB of a bank that may be in use behind the last stage
#        mock.sh FLUX1 MACHINE mistakes                  planted mistakes, each of which must be refused
#        mock.sh FLUX1 MACHINE picture MODEL             a picture through --device ttnn, on two of the machine's chips
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${FLUX1_TTNN_PYTHON:-}" ] || { echo "skipped: FLUX1_TTNN_PYTHON names no Python with ttnn (tests/ttnn/prepare.sh)"; exit 77; }
"$1" plan --help | grep -q -- --record || { echo "skipped: this flux1 does not record"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if [ "$3" = picture ]; then
    [ -e "$4" ] || { echo "skipped: $4 is not there"; exit 77; }
    "$FLUX1_TTNN_PYTHON" "$here/clusters.py" "$2" >"$dir/cluster.yaml"
    export TT_METAL_CACHE=$dir/cache TT_METAL_SLOW_DISPATCH_MODE=1 TT_METAL_MOCK_CLUSTER_DESC_PATH=$dir/cluster.yaml TMPDIR=$dir
    for n in 1 2; do
        "$1" generate --model "$4" --prompt "a red fox" --seed 5 --steps 2 --count "$n" --width 128 --height 128 --max-sequence-length 64 --device "ttnn:$2" --mesh 2x1 \
            --output "$dir/$n.png" >"$dir/out" 2>"$dir/err" || { cat "$dir/err"; exit 1; }
        grep -q "mock mode and computes nothing" "$dir/err" || { echo "FAILED: nobody is told of mock mode"; exit 1; }
    done
    [ -s "$dir/1.png" ] && [ -s "$dir/2-2.png" ] || { echo "FAILED: a picture is missing"; exit 1; }
    ! ls -d "$dir"/flux1-ttnn-* 2>/dev/null || { echo "FAILED: a folder is left"; exit 1; }
    exit 0
fi
part=
case $2 in
wh-n300 | bh-p300) mesh=1x2sp0tp1 ;;
wh-1x4) mesh=1x4sp0tp1 part='--part-of 2x4' ;;
wh-t3k | bh-loudbox) mesh=2x4sp0tp1 ;;
bh-quietbox2) mesh=2x2sp0tp1 ;;
wh-galaxy | bh-galaxy) mesh=4x8sp0tp1 ;;
*) echo "no mesh for $2"; exit 1 ;;
esac
plan() {
    "$1" plan --variant dev --machine "$machine" --mesh "$mesh" --width 1024 --height 1024 "$2" ${3:+"$3"}
}
machine=$2
plan "$1" --record "$dir/rec" >/dev/null
"$FLUX1_TTNN_PYTHON" "$here/clusters.py" "$2" >"$dir/cluster.yaml"
export TT_METAL_CACHE=$dir/cache TT_METAL_SLOW_DISPATCH_MODE=1 TT_LOGGER_LEVEL=fatal TT_METAL_MOCK_CLUSTER_DESC_PATH=$dir/cluster.yaml
if [ "$3" = mistakes ]; then
    "$FLUX1_TTNN_PYTHON" -B "$here/mistakes.py" "$dir/rec" 2>"$dir/err" || { tail -5 "$dir/err"; exit 1; }
    exit 0
fi
if [ "$3" = bfloat8_b ]; then # of T5 and the transformer
    "$1" plan --variant dev --machine "$2" --describe | sed 's/"weight_cell_bytes": 2\(\.0\)\{0,1\},/"weight_cell_bytes": 1.0625,/' >"$dir/machine.json"
    grep -q '1\.0625' "$dir/machine.json" || { echo "FAILED: the machine's cells are not told as they were"; exit 1; }
    machine=$dir/machine.json
fi
plan "$1" --json >"$dir/plan.json"
# shellcheck disable=SC2086
"$FLUX1_TTNN_PYTHON" -B "$here/../../tools/ttnn/flux1_ttnn.py" check "$dir/rec" --weights "$3" --links "$4" --plan "$dir/plan.json" $part >"$dir/out" 2>"$dir/err" ||
    { cat "$dir/out" "$dir/err"; exit 1; }
cat "$dir/out"
used=$(sed -n 's/^vae: .* s, \([0-9]*\) of .*/\1/p' "$dir/out")
[ "$used" -le "$5" ] || { echo "FAILED: $used MB of a bank are in use, at most $5 were expected"; exit 1; }
for part in clip t5 dit vae; do
    awk -v part="$part:" '$1 == part && $2 == "at" { ok = $12 >= $4 * .97 && $12 <= $4 * 1.03 } END { exit !ok }' "$dir/out" || { echo "FAILED: the plan's memory of $part"; exit 1; }
done
