#!/bin/sh
# generate --jsonl as a protocol: each line is answered by one line of JSON, in order and as docs/jsonl.schema.json says; --prompts: a prompt a line.
. "$(dirname "$0")/lib.sh"
schema=$DOCS/jsonl.schema.json check=$(dirname "$0")/jsonl_schema.py

# fits NAME FILE: every line of FILE is a NAME of the schema
fits() {
    command -v python3 >/dev/null || return 0
    python3 "$check" "$schema" "$1" "$2" >../problems || fail "$2 is not as the schema says: $(cat ../problems)"
}

# answer LINE KEY: of the line-th answer
answer() { sed -n "$1p" ../out | "$VALUE" "$2"; }
is() { # line, key, expected
    [ "$(answer "$1" "$2")" = "$3" ] || fail "answer $1: $2 is $(answer "$1" "$2"), expected $3"
}

size='"width": 32, "height": 32, "steps": 1'
cat >../lines <<END
{"prompt": "a red fox", "id": {"a": [1, null]}, "output": "1.png", "seed": null, "vae_tiling": true, $size}
{"prompt": "x", "id": 18446744073709551615, "output": "./1.png", $size}

{"prompt": "x", "id": "three", "promt": "y"}
{"prompt": "x", "guidance_scale": 3}
{"prompt": ["x"]}
{"prompt": "x", "steps": false}
{"prompt": "x", "vae_tiling": 1}
{"prompt": "x", "allow_empty": "yes"}
{"prompt": "
[7]
{"prompt": " "}
{"prompt": "", "allow_empty": true, "seed": -1, "count": 2, "output": "e.png", "vae_tiling": false, $size}
{"prompt": "x", "output": "no/where.png", "id": null}
{"prompt": "x", "output": "last.png", "seed": "18446744073709551615", "lora": null, "vae_tiling": "bands", $size}
END
# the next prompt is read while a request runs: the answers stay in order
flux1 generate -q -m "$tiny" --jsonl --encoder-device host <../lines
expect_status 1 "a line that fails"
[ "$(wc -l <../out)" = 14 ] || fail "fourteen lines that are not blank: $(wc -l <../out) answers"
i=0
for line in 1 2 4 5 6 7 8 9 10 11 12 13 14 15; do is $((i = i + 1)) line $line; done
i=0
for status in OK ERR_ARGUMENT ERR_ARGUMENT ERR_ARGUMENT ERR_ARGUMENT ERR_ARGUMENT ERR_ARGUMENT ERR_ARGUMENT ERR_FORMAT ERR_ARGUMENT ERR_ARGUMENT OK ERR_IO OK; do
    is $((i = i + 1)) status FLUX1_$status
done
is 1 id.a.0 1
is 2 id 18446744073709551615
is 3 id three
is 1 images.0.file 1.png
is 12 images.1.file e-2.png
is 13 images.# 0
is 14 images.0.seed 18446744073709551615
says() { # answer, pattern
    answer "$1" message | grep -Eq -e "$2" || fail "answer $1: the message does not match /$2/: $(answer "$1" message)"
}
says 2 '1.png was written by line 1'
says 3 'unknown key "promt" .did you mean "prompt"'
says 4 'unknown key "guidance_scale" .it is --guidance here'
says 5 '"prompt" is an array, it must be a string'
says 6 '"steps" is false, it must be a number'
says 7 '"vae_tiling" is a number, it must be true, false, "auto" or "bands"'
says 8 '"allow_empty" is a string, it must be true or false'
says 11 'prompt is empty'
[ "$(grep -c 'standard input, line' ../err)" = 11 ] || fail "each error is on standard error too"
for f in 1 e-1 e-2 last; do exists $f.png; done
cp ../out answers
fits answer answers
for i in 1 2 14 15; do sed -n ${i}p ../lines; done >good
fits request good
if command -v python3 >/dev/null; then
    sed -n 4p ../lines >bad
    python3 "$check" "$schema" request bad >/dev/null && fail "the checker sees an unknown key"
    python3 "$check" "$schema" answer good >/dev/null && fail "a request is no answer"
    python3 "$check" "$schema" request --keys >../keys
    answer 3 message | sed 's/.*allowed: //; s/, /\n/g' | LC_ALL=C sort | cmp -s - ../keys || fail "the schema has the keys that a line may have: $(tr '\n' ' ' <../keys)"
fi

# where no request can run, all lines are answered, with one sentence on standard error
printf '{"prompt": "x", "id": 1}\n{"prompt": "x", "id": 2}\nno JSON\n' >../lines
flux1 generate -m ./nowhere --jsonl <../lines
expect_status 1 "a model that is not there"
[ "$(wc -l <../err)" = 1 ] && [ "$(wc -l <../out)" = 3 ] || fail "three answers, one sentence"
is 2 id 2
says 3 'nowhere'
cp ../out lost
fits answer lost

# a byte order mark and lines that end as on Windows
printf '\357\273\277{"prompt": "a red fox", "output": "w.png", %s}\r\n\r\n{"prompt": "x", "output": "w.png", %s}\r\n' "$size" "$size" >../lines
flux1 generate -q -m "$tiny" --jsonl <../lines
is 1 status FLUX1_OK
is 2 line 3
says 2 'w.png was written by line 1'

# a line without end is answered and left out
{ printf '{"prompt": "'; head -c 5000000 /dev/zero | tr '\0' a; printf '"}\n{"prompt": "x", "output": "after.png", %s}\n' "$size"; } >../lines
flux1 generate -q -m "$tiny" --jsonl <../lines
expect_status 1 "a long line"
is 1 status FLUX1_ERR_LIMIT
is 2 line 2
is 2 images.0.file after.png
flux1 tokenize -m "$tiny" --jsonl <../lines
is 1 line 1
[ "$(answer 2 clip.#)" = 77 ] || fail "tokenize goes on behind a long line"

# ---- a step cache: any change is little to a threshold of 50; --from repeats it; the text is encoded once ----
rm -f -- *.png
printf '{"prompt": "x", "seed": 1, "steps": 3, "step_cache": "fb:50", "output": "a.png"}\n{"prompt": "x", "seed": 1, "steps": 3, "output": "b.png"}\n' >../lines
flux1 generate -v -m "$tiny" -W 32 -H 32 --jsonl <../lines
expect_status 0 "lines with a step cache and without"
is 1 images.0.steps_reused 2
is 2 images.0.file b.png
cp ../out cached
fits answer cached
fits request ../lines
grep -q 'step cache: in 2 of 3 steps' ../err || fail "how many steps were short: $(tail -3 ../err)"
grep -q 'prompts: 1 encoded, 1 found encoded' ../err || fail "one prompt was encoded: $(tail -3 ../err)"
! cmp -s a.png b.png || fail "the step cache changes the picture"
flux1 generate -m "$tiny" --from a.png --step-cache-check -o c.png
expect_status 0 "--from repeats the step cache"
cmp a.png c.png || fail "--from repeats the picture"
grep -q 'dB PSNR from the full run' ../err || fail "the distance is told: $(tail -3 ../err)"
flux1 generate -m "$tiny" --from a.png --step-cache-check -q --json -o c.png
expect_status 0 "--step-cache-check --json"
awk -v psnr="$(answer 1 images.0.from_full_run.psnr_db)" -v l2="$(answer 1 images.0.from_full_run.relative_l2)" \
    'BEGIN { exit !(psnr > 1 && psnr < 60 && l2 > 0 && l2 < 1) }' || fail "the distance in JSON: $(cat ../out)"
printf '{"prompt": "x", "seed": 1, "steps": 3, "step_cache": "fb:50", "output": "d.png"}\n' >../lines
flux1 generate -q -m "$tiny" -W 32 -H 32 --jsonl --step-cache-check <../lines
cp ../out checked
fits answer checked
[ -n "$(answer 1 images.0.from_full_run.psnr_db)" ] || fail "the distance of a line's picture: $(cat ../out ../err)"
flux1 generate -m "$tiny" -p x -S 7 -n 3 -s 2 -W 48 -H 32 --step-cache fb:0.000001 --step-cache-check --json --output-dir check
expect_status 0 "--step-cache-check of several pictures"
is 1 images.2.from_full_run.relative_l2 0.0
grep -q '"psnr_db": null' ../out || fail "equal pictures have no PSNR: $(cat ../out)"
for seed in 7 8 9; do
    grep -q "seed $seed: the picture is that of the full run" ../err || fail "each picture is compared with its own: $(tail -5 ../err)"
done
# what the run with the cache refuses is refused before the run without it
cp -rL "$PIPELINES/double" ../one
chmod -R u+w ../one
sed -i 's/"num_layers": 2/"num_layers": 1/' ../one/transformer/config.json
flux1 generate -m ../one -p x -s 1 -W 32 -H 32 --step-cache fb:0.1 --step-cache-check
expect_status 1 "a step cache of a model with one block"
grep -q 'this transformer has one block' ../err || fail "one block has no step cache: $(cat ../err)"
grep -q 'denoise' ../err && fail "the full run was made before the refusal"
refused 2 '--step-cache-check needs --step-cache' generate -m "$tiny" -p x --step-cache-check
refused 2 '--step-cache-check needs --step-cache fb:THRESHOLD' generate -m "$tiny" -p x --step-cache off --step-cache-check
for bad in 0.1 fb fb: fb:0 fb:-1 fb:nan fb:inf fb:1e-50 fb:101 fb:0x1 FB:0.1; do # 1e-50 is 0 as a float
    refused 2 "--step-cache $bad: must be off, or fb: and a threshold above 0 and at most 100" generate -m "$tiny" -p x --step-cache $bad --step-cache-check
done
refused 2 '--step-cache "": must be off' generate -m "$tiny" -p x --step-cache ""

# ---- a prompt a line ----
rm -f -- *.png
printf '\357\273\277a red fox\r\n\n  \n-5 degrees\nthe last' >prompts.txt
mkfifo ../pipe
cat prompts.txt >../pipe &
flux1 generate -q -m "$tiny" -W 32 -H 32 -S 3 --prompts ../pipe
expect_status 0 "--prompts from a pipe"
printf 'a-red-fox_seed3.png\n5-degrees_seed3.png\nthe-last_seed3.png\n' | cmp -s - ../out || fail "three pictures: $(tr '\n' ' ' <../out)"
"$PICTURE" a-red-fox_seed3.png parameters | grep -q '^a red fox$' || fail "no mark and no carriage return belong to the prompt"
printf 'x\nbad \377\ny\n' | "$FLUX1" generate -q -m "$tiny" -W 32 -H 32 -S 4 --json --prompts - >../out 2>../err
status=$?
expect_status 1 "--prompts with a bad line"
is 1 images.0.file x_seed4.png
is 2 images.# 0
is 3 images.0.file y_seed4.png
cp ../out words
fits answer words
refused 2 '--output x.png: all lines of --prompts would write this file.*picture%03d.png' generate -m "$tiny" --prompts prompts.txt -o x.png
refused 2 '--output n%d.png: with --prompts and --latents .* --count' generate -m "$tiny" --prompts prompts.txt --latents noise.safetensors -o n%d.png
refused 2 '--output - cannot be combined with --prompts' generate -m "$tiny" --prompts prompts.txt -o -
refused 2 '^flux1: --output n%d.gif: pictures are written as' generate -m "$tiny" --prompts prompts.txt -o n%d.gif
refused 2 '^flux1: --quality is for JPEG' generate -m "$tiny" --prompts prompts.txt --quality 50
refused 2 '^flux1: --seed 18446744073709551615 --count 2' generate -m "$tiny" --prompts prompts.txt -S 18446744073709551615 -n 2
# one name with the number of the picture: it goes on over all lines, and a line that fails leaves its numbers free
printf 'x\n\nbad \377\ny\n' >lines.txt
flux1 generate -q -m "$tiny" -W 32 -H 32 -S 4 -n 2 --prompts lines.txt -o 'n%02d.png' --output-dir numbered
expect_status 1 "--prompts with a bad line and -o n%02d.png"
[ "$(ls numbered | tr '\n' ' ')" = "n01.png n02.png n05.png n06.png " ] || fail "pictures are numbered over all lines: $(ls numbered | tr '\n' ' ')"
[ "$("$PICTURE" numbered/n06.png flux1 | "$VALUE" seed)" = 5 ] || fail "n06.png is the last line's second picture"
refused 2 '--prompt cannot be combined with --prompts' generate -m "$tiny" --prompts prompts.txt -p x
refused 2 '--prompts cannot be combined with --jsonl' generate -m "$tiny" --prompts prompts.txt --jsonl
refused 1 'no prompt in it' generate -m "$tiny" --prompts /dev/null
refused 1 'nowhere.txt: cannot open: No such file' generate -m "$tiny" --prompts nowhere.txt
finish
