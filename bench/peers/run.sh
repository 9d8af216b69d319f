#!/bin/bash
# Times flux1 and the peers on the same work, interleaved: README.md says what is needed. Tables go to OUT/table.txt, every run to OUT/runs.jsonl.
# usage: bench/peers/run.sh FLUX1 PYTHON OUT quick|int8|full|raw [--sd PROGRAM]
# OUT/model is made if absent (about 7 GB). quick: about 10 minutes on two quiet cores of AVX-512 with bf16; on a busy machine see drive.py --clock cpu.
set -euo pipefail # a table that drive.py does not finish is a failure, whatever tee says
usage() {
    echo "usage: run.sh FLUX1 PYTHON OUT quick|int8|full|raw [--sd PROGRAM]" >&2
    exit 2
}
refuse() {
    echo "run.sh: $*" >&2
    exit 2
}
program() { # as it is called from any folder
    local path
    case $1 in /*) path=$1 ;; */*) path=$PWD/$1 ;; *) path=$(command -v "$1" || true) ;; esac
    [[ -f $path && -x $path ]] || refuse "$1: there is no such program"
    echo "$path"
}
# Before anything is made: the model takes minutes and 7 GB.
[ $# -eq 4 ] || { [ $# -eq 6 ] && [ "$5" = --sd ]; } || usage
what=$4
case $what in
quick | int8) ;;
full | raw) [ $# -eq 4 ] || refuse "--sd: quick and int8 run it, $what does not" ;;
*) usage ;;
esac
flux1=$(program "$1")
python=$(program "$2")
sd=${6:+$(program "$6")}
wanted="torch diffusers transformers"
[ "$what" != raw ] || wanted=numpy
# shellcheck disable=SC2086
missing=$("$python" -c 'import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if not u.find_spec(m)))' $wanted) ||
    refuse "$2: it does not run as Python does"
[ -z "$missing" ] || refuse "$2 has no $missing: $2 -m pip install -r bench/peers/requirements.txt"
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")"
failed=0
drive() {
    "$python" drive.py --flux1 "$flux1" --flux1-options "--dtype $dtype" --model "$out/model" --out "$out/runs.jsonl" --logs "$out/logs" "$@" |
        tee -a "$out/table.txt" || failed=$?
    [ $failed -ne 130 ] || exit 130
}
peer() { echo "'$python' $1_peer.py --model {model}"; }
if [ "$what" != raw ] && [ ! -d "$out/model" ]; then # under its name when it is complete
    "$python" make_model.py "$out/model.part"
    mv "$out/model.part" "$out/model"
fi
dtype=bf16
case $what in
quick)
    drive --plan dit:256:256,dit:512:256,t5:256,clip:77,clip:17,vae:512 "$(peer torch)" "$(peer torch) --mode compile" "$(peer openvino)"
    [ -z "$sd" ] || drive --plan dit:512:256,t5:256,vae:512 --repeats 2 "'$python' sd_peer.py --model {model} --sd '$sd'"
    ;;
full) drive --plan dit:256:512,dit:512:512,dit:1024:256,dit:1024:512,t5:512,vae:1024 "$(peer torch)" "$(peer torch) --mode compile" "$(peer openvino)" ;;
int8)
    dtype=int8-fast # these have one scale a row
    drive --plan dit:256:256,dit:512:256,t5:256 "$(peer torch) --mode compile --quant int8dyn" "$(peer openvino) --weights int8 --precision f32 --group -1"
    dtype=int8 # this one has groups of 32
    [ -z "$sd" ] || drive --plan dit:512:256,t5:256 --repeats 2 "'$python' sd_peer.py --model {model} --type q8_0 --sd '$sd'"
    ;;
raw) "$python" raw_limits.py --seconds 1.2 | tee -a "$out/raw.txt" ;;
esac
exit $failed
