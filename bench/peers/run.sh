#!/bin/sh
# Times flux1 and the peers on the same work, interleaved: README.md says what is needed. Tables go to OUT/table.txt, every run to OUT/runs.jsonl.
# usage: bench/peers/run.sh FLUX1 PYTHON OUT quick|int8|full|raw [--sd PROGRAM]
# OUT/model is made if absent (about 7 GB). quick: about 10 minutes on two quiet cores of AVX-512 with bf16; on a busy machine see drive.py --clock cpu.
set -eu
usage() {
    echo "usage: run.sh FLUX1 PYTHON OUT quick|int8|full|raw [--sd PROGRAM]" >&2
    exit 2
}
[ $# -eq 4 ] || { [ $# -eq 6 ] && [ "$5" = --sd ]; } || usage
absolute() { case $1 in /*) echo "$1" ;; */*) echo "$PWD/$1" ;; *) command -v "$1" || usage ;; esac }
flux1=$(absolute "$1")
python=$(absolute "$2")
sd=${6:+$(absolute "$6")}
what=$4
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")"
drive() {
    "$python" drive.py --flux1 "$flux1" --flux1-options "--dtype $dtype" --model "$out/model" --out "$out/runs.jsonl" --logs "$out/logs" "$@" | tee -a "$out/table.txt"
}
peer() { echo "'$python' $1_peer.py --model {model}"; }
[ -d "$out/model/vae" ] || [ "$what" = raw ] || "$python" make_model.py "$out/model"
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
*) usage ;;
esac
