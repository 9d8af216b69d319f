#!/bin/bash
# Ranks on several hosts, which are network namespaces with limited links (support/hosts.sh): pictures equal those of the same mesh in one process, the bytes on
# the wire are those of the plan, a link that drops packets or is down for five seconds changes nothing, a host that stays silent is reported, and so is one
# that cannot be reached. Exit status 77 where there can be no such hosts.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../support/hosts.sh"
why=$(hosts_possible) || { echo "skipped: $why"; exit 77; }
trap 'hosts_down; chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT

# flux1 on all hosts, `slots` processes each: as `flux1` in lib.sh.
on_hosts() { # slots, arguments
    local slots=$1
    shift
    hosts_mpirun "$slots" timeout -k 5 240 "$FLUX1" "$@" >../out 2>../err </dev/null
    status=$?
}

in_one() { # the picture ../MESH.png of this mesh, its ranks being threads
    local mesh=$1
    shift
    flux1 "$@" --mesh "$mesh" -o "../$mesh.png"
    expect_status 0 "$mesh in one process"
}

same() { # mesh, file, what
    expect_status 0 "$3"
    cmp -s "../$1.png" "$2" || fail "$3: the picture differs from that of $1 in one process"
    rm -f "$2"
}

steps() { echo -m "$tiny" -p x -S 1 -W 128 -H 128 -s "$1"; }

ends_with() { # seconds, pattern, what: after a failure at $failed_at
    local took=$((SECONDS - failed_at))
    [ "$status" -ne 0 ] || fail "$3: exit status 0"
    [ "$took" -le "$1" ] || fail "$3: it took $took s to end, at most $1 are allowed"
    grep -Eiq "$2" ../err || fail "$3: the sentence does not match /$2/"
    absent x.png
}

# ---- two hosts

hosts_up 2 1gbit
for mesh in 2x1 1x2; do
    in_one $mesh generate $(steps 3)
    on_hosts 1 generate $(steps 3) --mesh $mesh -o x.png
    same $mesh x.png "$mesh on two hosts"
done
in_one 2x2 generate $(steps 3)
on_hosts 2 generate $(steps 3) --mesh 2x2 -o x.png
same 2x2 x.png "2x2, two processes on each of two hosts"
on_hosts 1 generate $(steps 3) --mesh 2x2 -o x.png
same 2x2 x.png "2x2, two threads on each of two hosts"

# bytes of a step: what twenty steps more send, against the plan of rank 0
sent() { # steps, mesh: bytes that host 1 has sent for them
    local before
    before=$(hosts_bytes 1)
    on_hosts 1 generate $(steps "$1") --mesh "$2" -o x.png
    expect_status 0 "$2, $1 steps"
    echo $(($(hosts_bytes 1 | cut -d' ' -f1) - ${before% *}))
}
for mesh in 2x1 1x2; do
    flux1 bench -m "$tiny" --stage dit -W 128 -H 128 --repeats 0 --json --mesh $mesh
    planned=$(($(grep -A 8 '"dit step"' ../out | grep -o '"exchanged_bytes": [0-9]*' | cut -d' ' -f2) / 2 * 100)) # half of it is host 1's
    few=$(sent 4 $mesh)
    many=$(sent 104 $mesh)
    counted=$((many - few))
    echo "$mesh: 100 steps sent $counted bytes from host 1, the plan says $planned"
    [ $counted -ge $planned ] && [ $counted -le $((planned + planned / 20 + 100000)) ] || fail "$mesh: the wire carries what the plan says, and 5 % and 1 kB a step at most"
done

# a cable that is pulled out for five seconds, and one that drops what does not fit into a short queue
long() { echo -m "$tiny" -p x -S 1 -W 128 -H 128 -s 1000; }
in_one 2x1 generate $(long)
(sleep 3; hosts_link 2 down; sleep 5; hosts_link 2 up) &
on_hosts 1 generate $(long) --mesh 2x1 -o x.png
wait $!
same 2x1 x.png "a link that is down for 5 s"
hosts_limit 1 500mbit 16kb 1ms
hosts_limit 2 500mbit 16kb 1ms
on_hosts 1 generate $(long) --mesh 2x1 -o x.png
same 2x1 x.png "links that drop packets"
hosts_limit 1 1gbit
hosts_limit 2 1gbit

# a host that is silent, and a process that is killed
(sleep 3; hosts_link 2 down) &
failed_at=$((SECONDS + 3))
on_hosts 1 generate -m "$tiny" -p x -S 1 -s 10000 -W 256 -H 256 --mesh 2x1 -o x.png
ends_with 35 'rank 1 .*h2' "a silent host"
hosts_down
hosts_up 2 1gbit
(sleep 3; ip netns pids "$(hosts_ns 2)" | xargs -r kill -9) &
failed_at=$((SECONDS + 3))
on_hosts 1 generate -m "$tiny" -p x -S 1 -s 10000 -W 256 -H 256 --mesh 2x1 -o x.png
ends_with 10 'rank 1 .*h2' "a host whose processes are killed"

# a host that does not answer
hosts_link 2 down
failed_at=$SECONDS
on_hosts 1 generate $(steps 3) --mesh 2x1 -o x.png
[ "$status" -ne 0 ] || fail "a host that cannot be reached: exit status 0"
[ $((SECONDS - failed_at)) -le 60 ] || fail "a host that cannot be reached: it took $((SECONDS - failed_at)) s to say so"
hosts_down

# ---- four hosts

hosts_up 4 1gbit
for mesh in 2x2 4x1 1x4 2x2sp1tp0; do
    in_one $mesh generate $(steps 3)
    on_hosts 1 generate $(steps 3) --mesh $mesh -o x.png
    same $mesh x.png "$mesh on four hosts"
done
finish
