#!/bin/sh
# Latents on the command line: what a decode that failed leaves, how it is finished, noise that is given, a GPU's noise.
. "$(dirname "$0")/lib.sh"

# a VAE of NaN only: its header, and all bits set behind it
vae=vae/diffusion_pytorch_model.safetensors
mkdir ../bad
cp -rL "$tiny"/. ../bad
chmod -R u+w ../bad
data=$(($(od -An -tu8 -N8 "$tiny/$vae") + 8))
{ head -c "$data" "$tiny/$vae" && tail -c +$((data + 1)) "$tiny/$vae" | LC_ALL=C tr '\000-\377' '\377'; } >"../bad/$vae"

draw="generate -p fox -S 5 -s 2 -W 48 -H 32 -q"
flux1 $draw -m "$tiny" -o want.png

flux1 $draw -m ../bad -o "it's.png"
expect_status 1 "a decode that fails"
absent "it's.png"
exists "it's.latents.safetensors"
grep -q "the latents are kept in it's.latents.safetensors; the picture is finished by: flux1 decode 'it'\\\\''s.latents.safetensors' -o 'it'\\\\''s.png'" ../err ||
    fail "a sentence names the file and the command"
flux1 $draw -m ../bad -o "it's.png"
exists "it's-2.latents.safetensors"
flux1 $draw -m ../bad -o -
exists fox_seed5.latents.safetensors

# the command writes the picture as the request would have: where, in which format, with or without the prompt
flux1 $draw -m ../bad --no-metadata --format webp --quality 50 --output-dir 'o p'
command=$(sed -n 's/.*the picture is finished by: flux1 //p' ../err)
[ "$command" = "decode 'o p/fox_seed5.latents.safetensors' --output-dir 'o p' --format webp --quality 50 --no-metadata" ] ||
    fail "the command has the options of writing: $command"
eval "flux1 $command -m '$tiny' -q"
expect_status 0 "the command, with a model that decodes"
exists 'o p/fox_seed5.webp'
LC_ALL=C grep -aqi 'exif\|xmp' 'o p/fox_seed5.webp' && fail "--no-metadata is lost"

# no file may be longer than a block: previews stop and latents are not kept, but the answer's error is the decode's
printf '{"prompt": "fox", "output": "short.png"}\n' >../lines
short() { # options
    (
        trap '' XFSZ
        ulimit -f 1
        exec "$FLUX1" generate --jsonl -S 5 -s 2 -W 48 -H 32 -q "$@" <../lines 2>/dev/null
    ) | cat >../out
}
short -m "$tiny" --preview preview.png
"$VALUE" warnings.0 <../out | grep -q '^previews stop: ' || fail "the answer has the warning of previews: $(cat ../out)"
short -m ../bad
"$VALUE" message <../out | grep -q NaN || fail "the answer's error is the decode's: $(cat ../out)"
"$VALUE" warnings.0 <../out | grep -q 'latents are not kept: .*short.latents' || fail "the answer warns that latents are not kept: $(cat ../out)"
absent short.latents.safetensors

# what is wrong with latents names their file, whichever option it came with
printf '%b%s' '\0103\0\0\0\0\0\0\0' '{"latents":{"dtype":"F32","shape":[1,3,2,2],"data_offsets":[0,48]}}' >three.safetensors
head -c 48 /dev/zero >>three.safetensors
refused 2 '^flux1: three.safetensors: latents of shape \[1, 3, 2, 2\]: ' decode -m "$tiny" three.safetensors
refused 2 '^flux1: three.safetensors: latents of shape \[1, 3, 2, 2\]: ' generate -m "$tiny" -p x --latents three.safetensors -q
printf '{"prompt": "x", "latents": "three.safetensors"}\n' | "$FLUX1" generate --jsonl -m "$tiny" -q >../out 2>../err
"$VALUE" message <../out | grep -q '^three.safetensors: latents of shape' || fail "in an answer too: $(cat ../out)"

# of a thousand pictures: refused before they are read
printf '%b%s' '\0116\0\0\0\0\0\0\0' '{"latents":{"dtype":"F32","shape":[1000,4,64,64],"data_offsets":[0,65536000]}}' >thousand.safetensors
truncate -s 65536086 thousand.safetensors
refused 1 '^flux1: reading thousand.safetensors takes .*latents 62.5 MiB), more than the 40.0 MiB .*--max-memory' decode -m "$tiny" thousand.safetensors --max-memory 40M
refused 1 'reading thousand.safetensors takes .*--max-memory' generate -m "$tiny" -p x --latents thousand.safetensors --max-memory 40M -q
rm thousand.safetensors

# it is known for what it is
refused 1 "it's.latents.safetensors: a picture's latents, which flux1 decode makes" info "it's.latents.safetensors"

# the run without the step cache is for comparison alone: it leaves nothing, and is not told of where it failed
flux1 generate -p fox -S 5 -s 2 -W 48 -H 32 -m ../bad --step-cache fb:0.1 --step-cache-check -o check.png
expect_status 1 "--step-cache-check with a decode that fails"
absent check.latents.safetensors
grep -q 'without the step cache: \|latents are kept' ../err && fail "a run that failed is told of"

# the file names the model; another one is given
flux1 decode "it's.latents.safetensors" -q
expect_status 1 "the model that the file names is the broken one"
grep -q NaN ../err || fail "the broken model's decode has NaN"
flux1 decode "it's.latents.safetensors" -m "$tiny" -o got.png -q
expect_status 0 "decode"
for f in want got; do
    "$FLUX1" info $f.png --json | grep -v '"file"\|"model"\|"parameters"' >../$f.json
done
cmp -s ../want.json ../got.json || fail "the picture says what it would have said: $(diff ../want.json ../got.json)"
rm -rf ../bad
cp -r "$tiny" ../bad
flux1 decode "it's.latents.safetensors" --format jpeg -q
expect_status 0 "decode with the model that the file names, which is whole by now"
exists fox_seed5.jpg

# dumps of several pictures, and their noise
flux1 $draw -m "$tiny" -n 2 -o d.png --dump dump.safetensors
flux1 decode dump.safetensors -o e.png -q
cmp -s d-1.png e-1.png && cmp -s d-2.png e-2.png || fail "a dump gives the same pictures"
flux1 $draw -m "$tiny" --latents dump.safetensors -o n.png
expect_status 0 "--latents"
flux1 decode dump.safetensors --no-metadata -o plain.png -q
"$FLUX1" $draw -m "$tiny" --latents dump.safetensors --no-metadata -o plain_n.png >/dev/null
cmp -s plain-1.png plain_n-1.png && cmp -s plain-2.png plain_n-2.png || fail "a dump's noise gives the same pictures"
flux1 generate --from n-1.png -m "$tiny" -o from.png --json
grep -q 'warning: n-1.png began with latents from a file' ../err || fail "--from tells of latents that it has not"
"$VALUE" warnings.0 <../out | grep -q 'began with latents from a file' || fail "the warning is in the answer: $(cat ../out)"

# a line's latents, and a GPU's noise
printf '{"prompt": "fox", "seed": 5, "rng": "cuda:256", "output": "j.png"}\n{"prompt": "fox", "latents": "dump.safetensors", "output": "k.png"}\n' >../lines
"$FLUX1" generate --jsonl -m "$tiny" -s 2 -W 48 -H 32 -q <../lines >../out 2>../err
[ "$(grep -c FLUX1_OK ../out)" -eq 2 ] || fail "rng and latents in a line: $(cat ../out)"
flux1 generate --from j.png -m "$tiny" -o l.png -q
cmp -s j.png l.png || fail "--from repeats a GPU's noise"
exists k-2.png

# what is no latents
printf '\002\000\000\000\000\000\000\000{}' >none.safetensors
printf '<!DOCTYPE html><html>' >page.safetensors
# More pictures than --count may be: of 2^31 there would be as many names, and of 2^32 + 1 one.
printf '%b%s' '\0112\0\0\0\0\0\0\0' '{"latents":{"dtype":"F16","shape":[10001,1,1,1],"data_offsets":[0,20002]}}' >many.safetensors
head -c 20002 /dev/zero >>many.safetensors
refused 1 '^flux1: many.safetensors: latents of 10001 pictures: at most 10000' decode many.safetensors -m "$tiny"
refused 1 'there is no tensor' decode none.safetensors -m "$tiny"
refused 1 'a web page' decode page.safetensors -m "$tiny"
refused 1 'none of its [0-9]+ tensors' decode "$tiny/$vae" -m "$tiny"
refused 1 'missing' decode missing -m "$tiny"
refused 2 'needs a FILE' decode
refused 2 'of 6 tokens: a picture of 64x32 has 8' generate -p x -m "$tiny" -W 64 -H 32 --latents dump.safetensors -q
refused 2 'count is 3' generate -p x -m "$tiny" -n 3 --latents dump.safetensors -q
refused 2 'N must be' generate -p x -m "$tiny" --rng cuda:255
refused 2 'must be one of' generate -p x -m "$tiny" --rng nv
finish
