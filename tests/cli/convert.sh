#!/bin/sh
# flux1 convert: good runs, the result described and usable, refusals, a full disk, interruption.
. "$(dirname "$0")/lib.sh"
files=$PIPELINES/../files
mini=$MODELS/mini-schnell

flux1 convert "$tiny" t.gguf --part transformer --type q8_0 --json
expect_status 0 "convert"
exists t.gguf
[ "$("$VALUE" bytes <../out)" = "$(wc -c <t.gguf)" ] || fail "convert says how many bytes the file has"
[ "$("$VALUE" format <../out)" = GGUF ] || fail "convert says the format"
flux1 convert t.gguf t.safetensors --quiet
expect_status 0 "convert back"
flux1 info t.safetensors
grep -q 'transformer' ../out || fail "info reads the result"
flux1 generate -m "$tiny" --transformer t.gguf -p x -S 1 -W 32 -H 32 -s 1 -o x.png -q
expect_status 0 "a picture from the result"
rm -f x.png

# an older file of that name is replaced, as a whole
printf old >t.gguf
flux1 convert "$tiny" t.gguf --part t5 --type bf16 -q
expect_status 0 "convert over an older file"
[ "$(head -c 4 t.gguf)" = GGUF ] || fail "an older file is replaced"

# the colon's number is a scale
flux1 convert "$tiny" l.safetensors --part transformer --lora "$files/lora/kohya.safetensors:0.5" -q
expect_status 0 "merge a LoRA"
grep -q 'kohya.safetensors:0.5' l.safetensors || fail "the result says what was merged"

# an adapter is found as generate finds it: in a folder, beside the model, and in the cache of the Hugging Face hub
export HF_HUB_CACHE="$PWD/hub"
mkdir -p one beside/loras hub/models--org--style/snapshots/1 hub/models--org--style/refs
cp "$files/lora/kohya.safetensors" one/
cp "$files/lora/kohya.safetensors" beside/loras/
cp "$files/lora/kohya.safetensors" hub/models--org--style/snapshots/1/
printf 1 >hub/models--org--style/refs/main
cp -R "$tiny/." beside/
for named in "$tiny one" "beside kohya" "$tiny org/style" "$tiny org/style/kohya.safetensors"; do
    flux1 convert "${named% *}" f.safetensors --part transformer --lora "${named#* }:0.5" -q
    expect_status 0 "merge ${named#* }"
    cmp -s l.safetensors f.safetensors || fail "merge ${named#* }: another file"
    rm -f f.safetensors
done
cp "$files/lora/kohya.safetensors" one/other.safetensors
refused 1 'one: several files of weights are in its folder' convert "$tiny" u.gguf --part transformer --lora one
refused 1 'gone: there is no such adapter here' convert "$tiny" u.gguf --part transformer --lora gone
unset HF_HUB_CACHE
rm -rf l.safetensors one beside hub

refused 2 'needs two paths' convert
refused 2 'needs two paths' convert t.gguf
refused 2 'unexpected argument "c"' convert a b c
refused 2 'should end in .gguf or .safetensors' convert t.gguf t.bin
refused 2 'must be one of keep\|f32' convert t.gguf u.gguf --type q9
refused 2 'safetensors has no type q4_k' convert t.gguf u.safetensors --type q4_k
refused 2 't.gguf would replace the file that is read' convert t.gguf t.gguf
ln t.gguf hard.gguf
refused 2 'hard.gguf: is read for the conversion' convert t.gguf hard.gguf --type f16
rm hard.gguf
refused 2 'several parts' convert "$tiny" u.gguf
refused 1 'no such file' convert nowhere u.gguf
refused 1 'does not exist' convert t.gguf nowhere/u.gguf
printf '* f16\n*.bias q0\n' >rules
refused 1 'rules: line 2: unknown type "q0"' convert t.gguf u.gguf --rules rules
refused 1 'nothing in it is for FLUX.1' convert "$tiny" u.gguf --part transformer --lora "$files/lora/sd.safetensors"
head -c 3000 t.gguf >cut.gguf
refused 1 'fetch it again' convert cut.gguf u.gguf
printf 'PK\003\004 a pickle' >p.ckpt
refused 1 'pickle' convert p.ckpt u.gguf

# no room: the limit of a file's size is one
printf old >big.gguf
(
    ulimit -f 64
    flux1 convert "$mini" big.gguf --part transformer --type f32 -q
    expect_status 1 "no room for the result"
    exit "$failures"
) || failures=$((failures + 1))
[ "$(cat big.gguf)" = old ] || fail "the older file survives a full disk"
ls ./*.tmp 2>/dev/null && fail "a full disk leaves a temporary file"
rm -f ./*

for delay in 0.01 0.05 0.1; do
    timeout --foreground -k 30 --preserve-status -s INT $delay "$FLUX1" convert "$mini" i.gguf --part transformer --type q2_k -q >../out 2>../err
    status=$?
    [ "$status" -eq 0 ] && rm -f i.gguf
    case $status in 0 | 130) ;; *) fail "interrupted after $delay s: exit status $status" ;; esac
    nothing_left "interrupted after $delay s"
done
finish
