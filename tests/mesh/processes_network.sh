#!/bin/sh
# A network between the processes that is limited, unplugged for five seconds, or drops packets is survived; one that stays unplugged is reported by both sides.
# usage: processes_network.sh SCENARIO_PROGRAM
set -eu
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
program=$1 here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad() { echo "$1"; cat "$dir"/log "$dir"/said.* 2>/dev/null; exit 1; }
run() { # what, seconds
    rm -f "$dir"/*
    code=0
    sh "$here/hosts.sh" 2 1gbit "$program" "$dir" last "$2" >"$dir/log" 2>&1 || code=$?
    [ $code -ne 77 ] || { cat "$dir/log"; exit 77; }
}
survives() {
    run "$@"
    [ $code -eq 0 ] || bad "$1 is not survived"
}

DURING="sleep 3; ip -n \$SWITCH link set host1 down; touch $dir/down; sleep 5; ip -n \$SWITCH link set host1 up"
export DURING
survives "a link that is unplugged for 5 s" 10
[ -f "$dir/down" ] || bad "the link was not unplugged"
unset DURING
TBF="burst 20kb limit 30kb"
export TBF
survives "a link that drops packets" 3
unset TBF
# mpirun does not end then: it waits for what is behind the link
DURING="sleep 3; ip -n \$SWITCH link set host1 down; sleep 60"
export DURING
rm -f "$dir"/*
sh "$here/hosts.sh" 2 1gbit "$program" "$dir" last 60 >"$dir/log" 2>&1 &
pid=$!
tries=0
while [ ! -f "$dir/said.0" ] || [ ! -f "$dir/said.1" ]; do
    [ $tries -lt 35 ] || bad "a link that stays unplugged is not noticed"
    tries=$((tries + 1))
    sleep 1
done
kill $pid
grep -q "process 1 on host host1, pid .*) has been silent for 20 s" "$dir/said.0" || bad "process 0 says something else"
grep -q "process 0 on host host0, pid .*) has been silent for 20 s" "$dir/said.1" || bad "process 1 says something else"
wait $pid || :
