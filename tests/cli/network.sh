#!/bin/bash
# Ranks on several hosts, which are network namespaces with limited links (support/hosts.sh): pictures equal those of the same mesh in one process, the bytes on
# the wire are those of the plan, a link that drops packets or is down for five seconds changes nothing, a host that stays silent is reported, and so is one
# that cannot be reached. Exit status 77 where there can be no such hosts.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../support/hosts.sh"
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
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

# ---- what ends all of them: begin, break something, expect_end

file() { hosts_file "$1"; }
ours() { # processes of flux1 on all hosts
    local k
    for ((k = 1; k <= hosts_count; k++)); do hosts_pids $k "$(readlink -f "$FLUX1")"; done
}

now() { date +%s%3N; }

begin() { # slots, launch|mpirun, flux1's arguments; returns in the middle of the steps
    local slots=$1 how=$2 try
    shift 2
    : >../err
    if [ "$how" = launch ]; then
        hosts_on 1 "$FLUX1" "$@" --hostfile "$(file "$slots")" --processes $((slots * hosts_count)) >../out 2>../err </dev/null &
    else
        hosts_mpirun "$slots" "$FLUX1" "$@" >../out 2>../err </dev/null &
    fi
    job=$!
    for ((try = 0; try < 600; try++)); do
        grep -q 'text encoders' ../err && break
        sleep 0.1
    done
    sleep 0.5
    began=$(now)
}

expect_end() { # seconds, pattern, what: no process of ours is left in time, nor a picture; one sentence was printed
    local took try limit=$(($1 * 1000))
    while [ -n "$(ours)" ] && [ $(($(now) - began)) -lt $((limit + 20000)) ]; do sleep 0.1; done
    took=$(($(now) - began))
    echo "$3: ended after $took ms"
    [ $took -le $limit ] || fail "$3: processes were left for $took ms: $(ours)"
    for try in 1 2 3 4 5 6; do # mpirun may be behind
        grep -a '^flux1: ' ../err | grep -vE 'load: |text encoders: |denoise: |decode: |done in ' >../said
        [ ! -s ../said ] || break
        sleep 0.5
    done
    [ "$(wc -l <../said)" = 1 ] || fail "$3: $(wc -l <../said) sentences"
    grep -Eq "$2" ../said || fail "$3: the sentence does not match /$2/"
    absent x.png
}

expect_exit() { # status, what: of flux1, which has started mpirun
    wait $job
    status=$?
    expect_status "$1" "$2"
    grep -Eq 'ORTE|mpirun noticed' ../err && fail "$2: mpirun has its say too"
}

endless() { echo generate -m "$tiny" -p x -S 1 -s 10000 -W 256 -H 256 -o x.png --mesh "$1"; }

again() { # hosts as they were
    hosts_down
    hosts_up "$@"
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

for how in mpirun launch; do
    begin 1 $how $(endless 2x1)
    hosts_link 2 down
    expect_end 30 'rank 1 .*host h2.* silent for 20 s' "$how: a silent host"
    [ $how = mpirun ] || expect_exit 1 "$how: a silent host"
    again 2 1gbit
    begin 2 $how $(endless 2x2)
    hosts_link 2 down
    expect_end 30 'rank [23] .*host h2.* silent for 20 s' "$how: a silent host, two processes each"
    [ $how = mpirun ] || expect_exit 1 "$how: a silent host, two processes each"
    again 2 1gbit
    begin 1 $how $(endless 2x1)
    hosts_kill 2
    expect_end 10 'rank 1 .*host h2' "$how: a host whose processes are killed"
    [ $how = mpirun ] || expect_exit 1 "$how: a host whose processes are killed"
    again 2 1gbit
    begin 1 $how $(endless 2x1)
    hosts_pids 2 "$(readlink -f "$FLUX1")" | xargs kill -9
    expect_end 10 'rank 1 .*host h2.* has ended' "$how: a process that is killed"
    [ $how = mpirun ] || expect_exit 1 "$how: a process that is killed"
    again 2 1gbit
done

# the user ends it
for signal in INT TERM; do
    begin 1 launch $(endless 2x1)
    kill -$signal "$(pgrep -P $job)" # flux1: what the function has become
    expect_end 10 'interrupted' "SIG$signal"
    expect_exit 130 "SIG$signal"
done

# a batch: what was finished before a host is gone stays, and the rest is not tried
for n in 1 2 3 4 5 6; do
    steps=$((n < 3 ? 1 : 10000))
    printf '{"prompt": "x", "seed": 1, "steps": %d, "width": 128, "height": 128, "output": "b%d.png"}\n' $steps $n
done >../lines
hosts_on 1 "$FLUX1" generate -m "$tiny" --mesh 2x1 --jsonl --hostfile "$(file 1)" <../lines >../out 2>../err &
job=$!
for ((try = 0; try < 300; try++)); do
    [ ! -f b2.png ] || break
    sleep 0.1
done
sleep 1
began=$(now)
hosts_kill 2
expect_end 10 'line 3: rank 1 .*host h2' "a batch whose host is killed"
expect_exit 1 "a batch whose host is killed"
exists b1.png
exists b2.png
cmp -s b1.png b2.png || fail "pictures of a batch that ends early differ"
rm -f b1.png b2.png
nothing_left "a batch that ends early"

# a host that does not answer: long (as ssh waits), or at once
again 2 1gbit
hosts_link 2 down
began=$(now)
hosts_on 1 "$FLUX1" $(endless 2x1) --hostfile "$(file 1)" >../out 2>../err </dev/null &
job=$!
sleep 0.3
expect_end 65 'hosts of .*"ssh HOST .* --version"' "a host that does not answer"
expect_exit 1 "a host that does not answer"
began=$(now)
HOSTS_AGENT=false hosts_on 1 "$FLUX1" $(endless 2x1) --hostfile "$(file 1)" >../out 2>../err </dev/null &
job=$!
sleep 0.3
expect_end 10 'hosts of .*"ssh HOST .* --version"' "a host that refuses"
expect_exit 1 "a host that refuses"
hosts_down

# ---- four hosts

hosts_up 4 1gbit
for mesh in 2x2 4x1 1x4 2x2sp1tp0; do
    in_one $mesh generate $(steps 3)
    on_hosts 1 generate $(steps 3) --mesh $mesh -o x.png
    same $mesh x.png "$mesh on four hosts"
done
finish
