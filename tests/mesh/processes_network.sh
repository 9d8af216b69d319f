#!/bin/bash
# A network between the processes that is limited, unplugged for five seconds, or drops packets is survived; one that stays unplugged is reported by both sides.
# usage: processes_network.sh SCENARIO_PROGRAM
set -u
. "$(dirname "$0")/../support/hosts.sh"
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
why=$(hosts_possible) || { echo "skipped: $why"; exit 77; }
program=$1 dir=$(mktemp -d)
trap 'hosts_down; rm -rf "$dir"' EXIT
bad() { echo "$1"; cat "$dir"/log "$dir"/said.* 2>/dev/null; exit 1; }
run() { # seconds
    rm -f "$dir"/*
    hosts_mpirun 1 "$program" "$dir" last "$1" >"$dir/log" 2>&1
}
at_work() { # both processes, and for a second
    for ((tries = 0; tries < 60; tries++)); do
        [ ! -f "$dir/pid.0" ] || [ ! -f "$dir/pid.1" ] || break
        sleep 1
    done
    sleep 1
}

hosts_up 2 1gbit
{ at_work; hosts_link 2 down; touch "$dir/down"; sleep 5; hosts_link 2 up; } &
run 10 || bad "a link that is unplugged for 5 s is not survived"
[ -f "$dir/down" ] || bad "the link was not unplugged"
wait
hosts_limit 1 1gbit 20kb 1ms
hosts_limit 2 1gbit 20kb 1ms
run 3 || bad "a link that drops packets is not survived"

# mpirun does not end then: it waits for what is behind the link
rm -f "$dir"/*
run 60 &
at_work
hosts_link 2 down
for ((tries = 0; tries < 35; tries++)); do
    [ ! -f "$dir/said.0" ] || [ ! -f "$dir/said.1" ] || break
    sleep 1
done
[ -f "$dir/said.0" ] && [ -f "$dir/said.1" ] || bad "a link that stays unplugged is not noticed"
grep -q "process 1 on host h2, pid .*) has been silent for 20 s" "$dir/said.0" || bad "process 0 says something else"
grep -q "process 0 on host h1, pid .*) has been silent for 20 s" "$dir/said.1" || bad "process 1 says something else"
