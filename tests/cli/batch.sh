#!/bin/sh
# generate --jsonl: a request a line gives the pictures that single runs give; bad lines give an error and are skipped; what waits for input can be interrupted.
. "$(dirname "$0")/lib.sh"

flux1 generate -m "$tiny" -p "a red fox" -S 7 -o fox.png
flux1 generate -m "$tiny" -p "a red car" -S 8 -s 2 -W 32 -H 48 -o car.png
flux1 generate -m "$tiny" -p "an owl" -S 9 -n 2 --max-sequence-length 32 -o owl.png
cat >../three <<'END'
{"prompt": "a red fox", "seed": 7, "output": "b-fox.png"}

{"prompt": "a red car", "seed": 8, "steps": 2, "width": 32, "height": 48, "output": "b-car.png"}
{"prompt": "an owl", "seed": "9", "count": 2, "max_sequence_length": 32, "output": "b-owl.png"}
END

# alone, and with the next prompt encoded ahead (on a CPU only where --encoder-device is given)
for options in "" "--encoder-device host"; do
    rm -f b-*.png
    # shellcheck disable=SC2086
    flux1 generate -m "$tiny" --jsonl $options <../three
    expect_status 0 "three lines $options"
    sed 's/"file": "/\n&/g' ../out | sed -n 's/^"file": "\([^"]*\)".*/\1/p' >../names
    printf 'b-fox.png\nb-car.png\nb-owl-1.png\nb-owl-2.png\n' | cmp -s - ../names || fail "the files are named in order: $(tr '\n' ' ' <../names)"
    for name in fox car owl-1 owl-2; do
        [ "$("$PICTURE" $name.png)" = "$("$PICTURE" b-$name.png)" ] || fail "$name.png and b-$name.png differ $options"
    done
done
# keys of true CFG and batches, with both prompts encoded ahead too
flux1 generate -m "$tiny" -p "an owl" -S 9 -n 2 --negative-prompt "a dog" --true-cfg-scale 3 -o cfg.png
printf '{"prompt": "x", "seed": 1, "output": "b-x.png"}\n{"prompt": "an owl", "seed": 9, "count": 2, "batch": 2, "negative_prompt": "a dog", "true_cfg_scale": 3, "output": "b-cfg.png"}\n' >../lines
flux1 generate -m "$tiny" --jsonl --encoder-device host <../lines
expect_status 0 "true CFG in a line"
for i in 1 2; do [ "$("$PICTURE" cfg-$i.png)" = "$("$PICTURE" b-cfg-$i.png)" ] || fail "cfg-$i.png and b-cfg-$i.png differ"; done
[ "$(grep -c 'text encoders' ../err)" = 1 ] || fail "both prompts of the second line were encoded ahead: $(grep -c 'text encoders' ../err)"
flux1 generate -m "$tiny" --jsonl --encoder-device host <../three

"$PICTURE" b-car.png parameters | grep -q '^a red car$' || fail "each picture has its own prompt in it"
# encoded ahead: only the first prompt is a stage of its own
[ "$(grep -c 'text encoders' ../err)" = 1 ] || fail "the second and third prompt were encoded ahead: $(grep -c 'text encoders' ../err)"

# the command line's values hold for every line that does not say otherwise; JSON is a line a request; the last line needs no newline
printf '{"prompt": "a red car", "seed": 8, "height": 48, "output": "x.png"}\n{"prompt": "a red car", "seed": 8, "width": 48, "output": "y.png"}' >../lines
flux1 generate -m "$tiny" --jsonl --json -s 2 -W 32 -H 32 <../lines
expect_status 0 "options for all lines"
[ "$("$PICTURE" car.png)" = "$("$PICTURE" x.png)" ] || fail "--steps and --width hold for a line without them"
case $("$PICTURE" y.png) in 48x32\ *) ;; *) fail "a line's width is its own: $("$PICTURE" y.png)" ;; esac
[ "$(wc -l <../out)" = 2 ] || fail "a line a request"
[ "$(head -n 1 ../out | "$VALUE" images.0.file)" = x.png ] || fail "the answer names the file"

# names of their own
printf '{"prompt": "A red fox", "seed": 42}\n' >../lines
flux1 generate -m "$tiny" --jsonl <../lines
exists a-red-fox_seed42.png

# seeds are exact up to 2^64 - 1
printf '{"prompt": "x", "seed": 18446744073709551615, "output": "last.png"}\n{"prompt": "x", "seed": 9007199254740993, "output": "odd.png"}\n' >../lines
flux1 generate -m "$tiny" --jsonl --json <../lines
[ "$(head -n 1 ../out | "$VALUE" images.0.seed)" = 18446744073709551615 ] || fail "the largest seed is taken from a line and told"
[ "$(tail -n 1 ../out | "$VALUE" images.0.seed)" = 9007199254740993 ] || fail "a seed beyond 2^53 is exact"
[ "$("$PICTURE" last.png flux1 | "$VALUE" seed)" = 18446744073709551615 ] || fail "the picture has the largest seed"
flux1 generate -m "$tiny" --jsonl </dev/null
expect_status 0 "no lines at all"

# a bad line is one sentence with its number, and the others come out
bad() { # status, pattern, line
    rm -f good-*.png
    printf '{"prompt": "x", "seed": 1, "output": "good-1.png"}\n%s\n{"prompt": "x", "seed": 2, "output": "good-3.png"}\n' "$3" >../lines
    flux1 generate -m "$tiny" --jsonl -q <../lines
    expect_status "$1" "$3"
    [ "$(wc -l <../err)" = 1 ] || fail "$3: one sentence"
    grep -Eq "standard input, line 2: .*$2" ../err || fail "$3: the sentence does not match /$2/"
    exists good-1.png
    exists good-3.png
}
bad 1 'JSON' '{"prompt": "x"'
bad 1 'prompt' '{"seed": 3}'
bad 1 'prompt' '["x"]'
bad 1 'unknown key "colour"; allowed: prompt, output,.* max_sequence_length' '{"prompt": "x", "colour": "red"}'
bad 1 'model' '{"prompt": "x", "model": "other"}'
bad 1 'steps.*whole number' '{"prompt": "x", "steps": 2.5}'
bad 1 'width 0' '{"prompt": "x", "width": 0}'
bad 1 'seed.*whole number' '{"prompt": "x", "seed": 18446744073709551616}'
bad 1 '"seed" is an array, it must be a number' '{"prompt": "x", "seed": [7]}'
bad 1 'no prompt' '{"prompt": null}'
bad 1 'twice|duplicate' '{"prompt": "x", "prompt": "y"}'
bad 1 'PNG' '{"prompt": "x", "output": "x.gif"}'
bad 1 'no-such' '{"prompt": "x", "output": "no-such/x.png"}'
bad 1 'at most' '{"prompt": "x", "max_sequence_length": 65536}'

# options of a single request
refused 2 '--prompt cannot be combined with --jsonl' generate -m "$tiny" --jsonl -p x
refused 2 '--output cannot be combined with --jsonl.*"output"' generate -m "$tiny" --jsonl -o x.png
refused 2 '--dump cannot be combined with --jsonl' generate -m "$tiny" --jsonl --dump x.safetensors
refused 2 '--from cannot be combined with --jsonl' generate -m "$tiny" --jsonl --from nope.png
refused 2 '--from cannot be combined with --prompts' generate -m "$tiny" --prompts /dev/null --from nope.png
printf '{"prompt": "x"}\n{"prompt": "y"}\n' >../two
"$FLUX1" generate -m ./nowhere --jsonl <../two >../out 2>../err
[ $? = 1 ] && [ "$(wc -l <../err)" = 1 ] || fail "a model that cannot be opened gives one error"

# requests come when they come: the first picture is there before the second line
rm -f -- *.png
mkfifo ../pipe
timeout 60 "$FLUX1" generate -m "$tiny" --jsonl --encoder-device host <../pipe >../out 2>../err &
exec 9>../pipe
printf '{"prompt": "x", "seed": 1, "output": "first.png"}\n' >&9
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -f first.png ] && break
    sleep 0.25
done
exists first.png
printf '{"prompt": "x", "seed": 1, "output": "second.png"}\n' >&9
exec 9>&-
wait $!
status=$?
expect_status 0 "lines from a pipe"
exists second.png

# waiting for a line, or in the middle of a request while the next prompt is encoded: 130, and nothing half done
rm -f -- *.png
for delay in 0.3 0.6 1.2; do
    (printf '{"prompt": "x", "steps": 10000, "width": 256, "height": 256, "output": "x.png"}\n{"prompt": "y", "output": "y.png"}\n'; exec sleep 2) |
        timeout --foreground -k 30 --preserve-status -s INT $delay "$FLUX1" generate -m "$tiny" --jsonl --encoder-device host >../out 2>../err &
    wait $!
    status=$?
    expect_status 130 "SIGINT in a batch after $delay s"
    nothing_left "SIGINT in a batch after $delay s"
done
mkfifo ../silent
(exec 8>../silent; exec sleep 3) &
timeout --foreground -k 30 --preserve-status -s INT 0.5 "$FLUX1" generate -m "$tiny" --jsonl <../silent >../out 2>../err
status=$?
expect_status 130 "SIGINT while waiting for a line"
finish
