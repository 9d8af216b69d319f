#!/bin/sh
# Processes that are killed or stopped, and versions that differ: every other process ends in time, with a sentence that names the one at fault.
# usage: processes_end.sh SCENARIO_PROGRAM killed|stopped|versions
set -eu
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed (scripts/deps)"; exit 77; }
program=$1 here=$(dirname "$0")
dir=$(mktemp -d)
mpirun_pid=
finish() {
    for file in "$dir"/pid.*; do
        [ ! -f "$file" ] || kill -9 "$(cat "$file")" 2>/dev/null || :
    done
    [ -z "$mpirun_pid" ] || kill -9 "$mpirun_pid" 2>/dev/null || :
    rm -rf "$dir"
}
trap finish EXIT
bad() { echo "$1"; cat "$dir"/log "$dir"/said.* 2>/dev/null; exit 1; }

wait_for() { # file, seconds
    tries=0
    while [ ! -f "$1" ]; do
        [ $tries -lt $(($2 * 20)) ] || bad "$what: no $1 within $2 s"
        tries=$((tries + 1))
        sleep 0.05
    done
}

begin() { # processes, scenario
    rm -f "$dir"/*
    sh "$here/mpirun.sh" "$1" "$program" "$dir" "$2" >"$dir/log" 2>&1 &
    mpirun_pid=$!
    i=0
    while [ $i -lt "$1" ]; do
        [ "$2" = versions ] || wait_for "$dir/pid.$i" 30
        i=$((i + 1))
    done
}

# Every process but one has ended with a sentence that names that one.
expect_sentences() { # processes, who is gone, seconds, how the sentence ends
    i=0
    while [ $i -lt "$1" ]; do
        if [ $i -ne "$2" ]; then
            wait_for "$dir/said.$i" "$3"
            grep -q "process $2 on host .*(*pid .*) .*$4" "$dir/said.$i" || bad "$what: process $i says something else"
        fi
        i=$((i + 1))
    done
}

ends() { # processes, scenario, who, signal, seconds, how the sentence ends
    what="$4 to process $3 of $1, $2"
    begin "$1" "$2"
    sleep 0.2
    kill "-$4" "$(cat "$dir/pid.$3")"
    expect_sentences "$1" "$3" "$5" "$6"
    [ "$4" != STOP ] || kill -9 "$(cat "$dir/pid.$3")"
    code=0
    wait $mpirun_pid || code=$?
    mpirun_pid=
    [ $code -ne 0 ] || bad "$what: mpirun calls it a success"
}

case $2 in
killed)
    for scenario in exchange idle; do
        ends 2 $scenario 1 KILL 5 "has ended"
        ends 2 $scenario 0 KILL 5 "has ended"
        ends 3 $scenario 1 KILL 5 "has ended"
    done
    ;;
stopped)
    ends 3 exchange 1 STOP 27 "has been silent for 20 s"
    ends 2 exchange 0 STOP 27 "has been silent for 20 s"
    ;;
versions)
    what="versions that differ"
    begin 3 versions
    for i in 0 1 2; do
        wait_for "$dir/said.$i" 30
        grep -q "^process 0 on host [^ ]* (pid [0-9]*) runs flux1 1.0 with layout 7, but process 1 on host [^ ]* (pid [0-9]*) runs flux1 1.1 with layout 8: " \
            "$dir/said.$i" || bad "process $i says something else"
    done
    wait $mpirun_pid || bad "$what: it does not end well"
    mpirun_pid=
    ;;
esac
