#!/bin/sh
# On a terminal: one redrawn line that fits it, with seconds a step and the time left; waiting for a prompt is said, and Ctrl-C ends it.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || exit 77
on() { # columns, seconds until Ctrl-C, flux1's arguments
    columns=$1 seconds=$2
    shift 2
    python3 "$(dirname "$0")/terminal.py" "$columns" "$seconds" "$FLUX1" "$@" >../screen 2>../err
    status=$(head -n 1 ../screen)
}
for columns in 24 50 200; do
    on $columns 0 generate -m "$tiny" -p x -S 1 -s 60 -W 128 -H 128 -o x.png
    expect_status 0 "$columns columns"
    grep -v '^flux1: \|^x.png$' ../screen | sed 1d >../drawn
    awk -v most=$columns 'length >= most { print; bad = 1 } END { exit bad }' ../drawn || fail "a line is wider than $columns columns"
    grep -q '0/0' ../drawn && fail "0/0 at $columns columns"
    grep -Eq '(^| )[0-9]+/60 +.*[0-9]\.[0-9]+ ?s/step +[0-9.]+ ?s( left)?$' ../drawn || fail "$columns columns: no step with its seconds and the time left: $(tail -n 3 ../drawn)"
done
grep -q '\[#' ../drawn || fail "a wide terminal has a bar"
odd=$(printf 'a\033[31mb\n.png')
on 80 0 generate -m "$tiny" -p x -S 1 -s 1 -W 32 -H 32 -q -o "$odd"
expect_status 0 "a name with control characters"
grep -q '^a?\[31mb?.png$' ../screen || fail "is printed blanked: $(cat ../screen)"
rm "$odd"
on 80 1 generate -m "$tiny" --prompt-file - -o y.png
expect_status 130 "Ctrl-C while a prompt is waited for"
grep -q 'waiting for the prompt on the terminal' ../screen || fail "waiting is said: $(cat ../screen)"
on 80 1 generate -m "$tiny" --jsonl
expect_status 130 "Ctrl-C while a line is waited for"
grep -q 'waiting for requests' ../screen || fail "waiting for lines is said: $(cat ../screen)"
finish
