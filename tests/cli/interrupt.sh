#!/bin/sh
# Interrupted at any moment: exit status 130, no file; killed outright: no file of the picture's name.
. "$(dirname "$0")/lib.sh"
long="generate -m $tiny -p x -S 1 -s 10000 -W 256 -H 256 -o x.png"

# SIGINT's and SIGTERM's bits in the mask of those that process $1 catches
catches_signals()
{
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
    [ $((0x${mask:-0} & 0x4002)) -eq $((0x4002)) ]
}

# interrupt SIGNAL SECONDS ARGUMENT...: the program gets the signal so long after it began to catch it, however slowly it
# starts. The shell has what it starts beside itself ignore SIGINT, hence env.
interrupt()
{
    signal=$1 delay=$2
    shift 2
    env --default-signal=INT "$FLUX1" "$@" >../out 2>../err &
    pid=$!
    tries=0
    until catches_signals $pid || [ $((tries += 1)) -gt 600 ]; do sleep 0.05; done
    sleep "$delay"
    kill -s "$signal" $pid
    wait $pid
    status=$?
}

for signal in INT TERM; do
    for delay in 0 0.2 0.5 2; do
        # shellcheck disable=SC2086
        interrupt $signal $delay $long
        expect_status 130 "SIG$signal after $delay s"
        tail -n 1 ../err | grep -q 'interrupted' || fail "SIG$signal after $delay s: says so"
        nothing_left "SIG$signal after $delay s"
    done
done

# waiting for its prompt, from a silent writer or from a pipe that nobody opens: the first one ends it
mkfifo ../silent ../unopened
(exec 8>../silent; exec sleep 3) &
for from in "--prompt-file ../silent" "--prompt-file ../unopened" "--prompts ../unopened"; do
    # shellcheck disable=SC2086
    interrupt INT 0.3 generate -m "$tiny" $from
    expect_status 130 "SIGINT while waiting for $from"
done
nothing_left "SIGINT while waiting"

# on a mesh no rank may hang
# shellcheck disable=SC2086
interrupt INT 1 $long --mesh 1x2
expect_status 130 "SIGINT on a mesh"
nothing_left "SIGINT on a mesh"

# an older picture of that name survives
printf old >x.png
# shellcheck disable=SC2086
interrupt INT 0.5 $long
[ "$(cat x.png)" = old ] || fail "an interrupted run leaves the old picture"
rm -f x.png

# shellcheck disable=SC2086
timeout --foreground -s KILL 0.5 "$FLUX1" $long >../out 2>../err
absent x.png
finish
