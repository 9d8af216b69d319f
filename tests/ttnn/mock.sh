#!/bin/sh
# All of FLUX.1 at full size, as the worker asks the vendor's library for it, on machines that are not here (mock mode): every call, L1 and DRAM are checked by
# the library, nothing is computed; the memory is compared with what flux1 plan says. Skipped without FLUX1_TTNN_PYTHON, an environment that prepare.sh made, and
# without one in the folder `ttnn` beside the program (scripts/check).
# usage: mock.sh FLUX1 MACHINE WEIGHTS LINKS MOST        MOST: MB of a bank that may be in use behind the last stage
#        mock.sh FLUX1 MACHINE mistakes                  planted mistakes, each of which must be refused
#        mock.sh FLUX1 MACHINE search                    which blockings of a step's products are accepted
#        mock.sh FLUX1 MACHINE picture MODEL             a picture through --device ttnn, on two of the machine's chips
#        mock.sh FLUX1 MACHINE kit MODEL                 the kit for people with a card: the library takes every call of it, and nothing is compared
set -eu
here=$(cd "$(dirname "$0")" && pwd)
beside=$(dirname "$1")/ttnn/bin/python
[ ! -x "$beside" ] || FLUX1_TTNN_PYTHON=${FLUX1_TTNN_PYTHON:-$beside}
[ -n "${FLUX1_TTNN_PYTHON:-}" ] || { echo "skipped: FLUX1_TTNN_PYTHON names no Python with ttnn (tests/ttnn/prepare.sh)"; exit 77; }
"$1" plan --help | grep -q -- --record || { echo "skipped: this flux1 does not record"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export FLUX1_TTNN_BLOCKINGS=$dir/table.json
if [ "$3" = picture ] || [ "$3" = kit ]; then
    [ -e "$4" ] || { echo "skipped: $4 is not there"; exit 77; }
    "$FLUX1_TTNN_PYTHON" "$here/clusters.py" "$2" >"$dir/cluster.yaml"
    export TT_METAL_CACHE=$dir/cache TT_METAL_SLOW_DISPATCH_MODE=1 TT_METAL_MOCK_CLUSTER_DESC_PATH=$dir/cluster.yaml TMPDIR=$dir XDG_CACHE_HOME=$dir
fi
if [ "$3" = kit ]; then
    FLUX1_MODEL=$4 "$FLUX1_TTNN_PYTHON" -B "$here/../../tools/ttnn/flux1_ttnn.py" kit "$dir/report" --flux1 "$1" --device "ttnn:$2" >"$dir/out" 2>"$dir/err" || { cat "$dir/out" "$dir/err"; exit 1; }
    cat "$dir/out"
    grep -q '^mock mode: numbers mean nothing; nothing is compared' "$dir/out" || { echo "FAILED: the report does not tell of mock mode"; exit 1; }
    grep -q '^operations, without and with a trace: 0 ok, [0-9][0-9]* made$' "$dir/out" || { echo "FAILED: operations are not made, or compared"; exit 1; }
    ! grep -q 'relative L2 [0-9]\| ms\| s$' "$dir/out" || { echo "FAILED: the report has numbers, which mean nothing"; exit 1; }
    exit 0
fi
if [ "$3" = picture ]; then
    twice=
    for n in 1 2; do # the second time with packed weights from disk, and two passes a step
        # shellcheck disable=SC2086
        "$1" generate $twice --model "$4" --prompt "a red fox" --seed 5 --steps 2 --count "$n" --width 128 --height 128 --max-sequence-length 64 --device "ttnn:$2" --mesh 2x1 \
            --cache "$dir/kept" --verbose --output "$dir/$n.png" >"$dir/out" 2>"$dir/err" || { cat "$dir/err"; exit 1; }
        cached=$(grep -c "of them from the cache" "$dir/err" || true)
        [ "$cached" -eq $((4 * (n - 1))) ] || { echo "FAILED: weights of $cached stages are from the cache"; cat "$dir/err"; exit 1; }
        twice='--negative-prompt snow --true-cfg-scale 2'
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
if [ "$3" = search ]; then # single blocks' last product among them, of which larger blocks do not fit a core
    "$FLUX1_TTNN_PYTHON" -B "$here/../../tools/ttnn/flux1_ttnn.py" search "$dir/rec" --stage dit.open --stage dit.step >"$dir/out" 2>"$dir/err" || { cat "$dir/out" "$dir/err"; exit 1; }
    cat "$dir/out"
    [ "$(grep -c 'blockings next to (8, 8, 8, 2, 2) are accepted' "$dir/out")" -ge 5 ] || { echo "FAILED: the products of a step are not searched"; exit 1; }
    ! grep -q ': \([0-9]*\) of \1 blockings next to (8, 8, 8, 2, 2)' "$dir/out" || { echo "FAILED: blocks of 16 x 8 tiles and 8 x 16 fit a core"; exit 1; }
    grep -q 'no table is written' "$dir/out" && [ ! -e "$FLUX1_TTNN_BLOCKINGS" ] || { echo "FAILED: a table of no times"; exit 1; }
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
