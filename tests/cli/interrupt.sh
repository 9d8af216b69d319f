#!/bin/sh
# Interrupted at any moment: exit status 130, no file; killed outright: no file of the picture's name.
. "$(dirname "$0")/lib.sh"
long="generate -m $tiny -p x -S 1 -s 10000 -W 256 -H 256 -o x.png"

for signal in INT TERM; do
    for delay in 0.2 0.5 1 2; do
        # shellcheck disable=SC2086
        timeout --foreground -k 30 --preserve-status -s $signal $delay "$FLUX1" $long >../out 2>../err
        status=$?
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
    timeout --foreground -k 30 --preserve-status -s INT 0.5 "$FLUX1" generate -m "$tiny" $from >../out 2>../err
    status=$?
    expect_status 130 "SIGINT while waiting for $from"
done
nothing_left "SIGINT while waiting"

# on a mesh no rank may hang
# shellcheck disable=SC2086
timeout --foreground -k 30 --preserve-status -s INT 1 "$FLUX1" $long --mesh 1x2 >../out 2>../err
status=$?
expect_status 130 "SIGINT on a mesh"
nothing_left "SIGINT on a mesh"

# an older picture of that name survives
printf old >x.png
# shellcheck disable=SC2086
timeout --foreground -k 30 --preserve-status -s INT 0.5 "$FLUX1" $long >../out 2>../err
[ "$(cat x.png)" = old ] || fail "an interrupted run leaves the old picture"
rm -f x.png

# shellcheck disable=SC2086
timeout --foreground -s KILL 0.5 "$FLUX1" $long >../out 2>../err
absent x.png
finish
