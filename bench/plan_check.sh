#!/bin/sh
# Compares `flux1 plan` with real runs of the stages on this machine: 1 rank, 2 ranks that are threads, and, given a
# machine file, 2 ranks over MPI on the links that it describes. Prints predicted, measured and ratio of each stage.
# The machine should be quiet. The rates are measured once before and once after the runs; the prediction is their mean.
#
# usage: bench/plan_check.sh build/flux1 [SIZE] [TOKENS] [THREADS]                  (512 256 2)
#        MACHINE=two-hosts.json LAUNCH="mpirun -n 2 …" bench/plan_check.sh build/flux1 …
#   MACHINE  a machine file with "mesh": [1, 2] (or another) whose "chip" is "this-cpu" and whose links are the limited ones:
#            see docs/planner.md
#   LAUNCH   what starts the ranks of a real run on those links; the run is LAUNCH build/flux1 bench --mesh … --json
#   THREADS_EACH  threads of one process of such a run (1)
set -eu
flux1=$1 size=${2:-512} tokens=${3:-256} threads=${4:-2}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

request="--variant schnell --width $size --height $size --steps 1 --max-sequence-length $tokens"

measure() { # name, mesh options; LAUNCH before it for real links
    name=$1
    shift
    # shellcheck disable=SC2086
    $launch "$flux1" bench $request --repeats 3 --json --quiet "$@" >"$folder/$name.bench.json"
}

predict() { # name, machine, time, mesh options
    name=$1 machine=$2 when=$3
    shift 3
    # shellcheck disable=SC2086
    "$flux1" plan $request --machine "$machine" --json --quiet "$@" >"$folder/$name.plan.$when.json"
}

compare() { # name
    python3 - "$folder/$1" "$1" <<'PYTHON'
import glob, json, sys
plans = [json.load(open(p))[0] for p in sorted(glob.glob(sys.argv[1] + ".plan.*.json"))]
bench = json.load(open(sys.argv[1] + ".bench.json"))
measured = {s["stage"]: s["seconds"] for s in bench["stages"]}
for i, s in enumerate(plans[0]["stages"]):
    predicted = sum(p["stages"][i]["seconds_each"] for p in plans) / len(plans)
    real = measured[s["stage"]]
    print(f"{sys.argv[2]:10s} {s['stage']:12s} predicted {predicted:9.3f} s  measured {real:9.3f} s  ratio {predicted / real:5.2f}")
total = sum(p["total_seconds"] for p in plans) / len(plans)
print(f"{sys.argv[2]:10s} {'total':12s} predicted {total:9.3f} s  measured {sum(measured.values()):9.3f} s  "
      f"ratio {total / sum(measured.values()):5.2f}")
PYTHON
}

check() { # name, machine, mesh, sp, tp, threads of a run
    predict "$1" "$2" 1 --mesh "$3" --sp "$4" --tp "$5" --threads "$6"
    measure "$1" --mesh "$3" --sp "$4" --tp "$5" --threads "$6"
    predict "$1" "$2" 2 --mesh "$3" --sp "$4" --tp "$5" --threads "$6"
    compare "$1"
}

launch=
check 1x1 this-cpu 1x1 1@0 1@1 "$threads"
check sp2 this-cpu 2x1 2@0 1@1 "$threads"
check tp2 this-cpu 1x2 1@0 2@1 "$threads"
if [ -n "${MACHINE:-}" ]; then
    launch=${LAUNCH:?what starts the ranks, such as: mpirun -n 2}
    check mpi-sp2 "$MACHINE" 2x1 2@0 1@1 "${THREADS_EACH:-1}"
    check mpi-tp2 "$MACHINE" 1x2 1@0 2@1 "${THREADS_EACH:-1}"
fi
