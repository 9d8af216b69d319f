#!/bin/sh
# Names, formats and metadata of pictures; what is left of a batch that ends in its midst.
. "$(dirname "$0")/lib.sh"
pictures=$PIPELINES/../pictures
draw="generate -m $tiny -S 5 -s 1 -W 32 -H 32 -q"

# made-up names: letters of every script, and exclusively taken
# shellcheck disable=SC2086
for s in 1 2 3 4; do "$FLUX1" generate -m "$tiny" -p "Größe_狐狸 лиса!" -S 5 -s $s -W 32 -H 32 -q >../name$s & done
wait
[ "$(cat ../name? | sort -u | wc -l)" -eq 4 ] || fail "four runs at once name four pictures: $(cat ../name? | tr '\n' ' ')"
[ "$(find . -name 'größe-狐狸-лиса_seed5*.png' -size +0 | wc -l)" -eq 4 ] || fail "and write them: $(ls | tr '\n' ' ')"
flux1 $draw -p "$(printf '狐%.0s' $(seq 300))"
expect_status 0 "a prompt of one long word"
exists "$(cat ../out)"

# patterns, folders, links, names as long as they may be
flux1 $draw -p x -n 3 -o 'a%02d.png' --output-dir deep/er
expect_status 0 "--output-dir"
printf 'deep/er/a%s.png\n' 01 02 03 | cmp -s - ../out || fail "%02d is the number: $(tr '\n' ' ' <../out)"
exists deep/er/a03.png
flux1 $draw -p x -o '100%.png'
exists '100%.png'
flux1 $draw -p x --output-dir made
exists made/x_seed5.png
ln -s later.png link.png
flux1 $draw -p x -o link.png
exists later.png
[ -L link.png ] || fail "a link to nothing stays a link"
long=$(printf 'n%.0s' $(seq 251)).png
flux1 $draw -p x -o "$long"
exists "$long"

# standard output: the picture and nothing else
flux1 $draw -p x -o -
expect_status 0 "-o -"
cmp -s ../out later.png || fail "-o - writes the same bytes as a file has"

# a picture repeats itself, from every format; options count more
for ending in png jpg webp; do
    flux1 $draw -p "a <fox> & \"owl\"" --negative-prompt bad --true-cfg-scale 2 -o "one.$ending"
    if [ "$status" -ne 0 ] && grep -q 'made without' ../err; then continue; fi
    expect_status 0 "$ending"
    flux1 generate -m "$tiny" --from "one.$ending" -q -o "two.$ending"
    cmp -s "one.$ending" "two.$ending" || fail "--from one.$ending is another picture"
    flux1 info "one.$ending"
    sed 1d ../out >../text
    printf 'a <fox> & "owl"\nNegative prompt: bad\n' >../expected
    head -n 2 ../text | cmp -s - ../expected || fail "info one.$ending prints its parameters"
    flux1 info --json "one.$ending"
    [ "$("$VALUE" request.true_cfg_scale <../out)" = 2.0 ] || fail "info --json one.$ending has the request"
    flux1 $draw -p "a <fox>" --no-metadata -o "bare.$ending"
    grep -aq -e flux1 -e fox "bare.$ending" && fail "--no-metadata leaves something in bare.$ending"
    refused 1 'does not say how it was made' generate -m "$tiny" --from "bare.$ending"
done
flux1 generate -m "$tiny" --from one.png -S 6 -q --json
[ "$("$VALUE" images.0.seed <../out)" = 6 ] || fail "--seed counts more than --from"
flux1 generate -m "$tiny" --from one.png -S -1 -q --json
[ "$("$VALUE" images.0.seed <../out)" != 5 ] || fail "--seed -1 counts more than --from"
flux1 generate -m "$tiny" --from "$pictures/forge.png" -s 1 --output-dir forge --json
expect_status 0 "Forge's picture"
[ "$("$VALUE" images.0.seed <../out)" = 5 ] || fail "the seed of Forge's picture"
[ "$("$VALUE" images.0.height <../out)" = 48 ] || fail "the size of Forge's picture"
flux1 generate -m "$tiny" --from "$pictures/a1111_be.webp" -s 1 -o a1111.png
expect_status 0 "AUTOMATIC1111's picture"
grep -q 'not repeated: .*Sampler' ../err || fail "what is not repeated is told: $(cat ../err)"
# adapters are tags of the prompt for AUTOMATIC1111, and its tags are adapters here
flux1 $draw -p owl --lora "$PIPELINES/../files/lora/kohya.safetensors:0.5" -o whole.png
"$PICTURE" whole.png parameters | head -n 1 | grep -qx 'owl <lora:kohya:0.5>' || fail "a picture's tags: $("$PICTURE" whole.png parameters)"
LC_ALL=C sed 's/"steps": 1/"steps": 3/' whole.png >half.png
FLUX1_PATH=$PIPELINES/../files/lora flux1 generate -m "$tiny" --from half.png -q -o again.png
[ "$("$PICTURE" whole.png)" = "$("$PICTURE" again.png)" ] || fail "the tags repeat the picture: $(cat ../err)"
flux1 info --json "$pictures/a1111_lora.png"
[ "$("$VALUE" request.prompt <../out)|$("$VALUE" request.lora.0 <../out)|$("$VALUE" request.lora.1 <../out)|$("$VALUE" request.lora.# <../out)" = "a red fox , snow|kohya:0.5|paper:0.25|2" ] ||
    fail "the tags of AUTOMATIC1111's picture: $(cat ../out)"
refused 1 '^flux1: kohya: there is no such adapter here, .*FLUX1_PATH' generate -m "$tiny" --from "$pictures/a1111_lora.png" -q
# what made it is the run's, not the writer's
flux1 $draw -p x --mesh 1x2 --dtype bf16 -o made.png -q
flux1 info --json made.png
[ "$("$VALUE" request.mesh <../out) $("$VALUE" request.dtype <../out) $("$VALUE" request.device <../out)" = "1x2 bf16 cpu" ] || fail "mesh and dtype: $(cat ../out)"
flux1 $draw -p x --device ref -o made.png -q
flux1 info --json made.png
[ "$("$VALUE" request.mesh <../out) $("$VALUE" request.dtype <../out) $("$VALUE" request.device <../out)" = "1x1 f32 ref" ] || fail "device: $(cat ../out)"
# another arithmetic is told, with the option that repeats it; the same is not
flux1 $draw -p x --dtype int8-fast -o fast.png -q
flux1 generate -m "$tiny" --from fast.png --dtype f32 -o slow.png
grep -q 'fast.png was drawn in int8-fast, this run draws in f32: .*--dtype int8-fast repeats it$' ../err || fail "another dtype is told: $(cat ../err)"
flux1 generate -m "$tiny" --from fast.png --dtype int8-fast -o again.png
grep -q 'was drawn in' ../err && fail "the same dtype is told"
cmp -s fast.png again.png || fail "--dtype repeats the picture"
flux1 info fast.png
grep -q '^max sequence length [0-9]*, dtype int8-fast, device cpu, mesh 1x1$' ../out || fail "info prints how it was drawn: $(cat ../out)"
# control characters of a stranger's text do not reach the terminal: C0, and C1, of which U+009B begins a command too
controls() { LC_ALL=C grep -qP '[\x01-\x08\x0B-\x1F\x7F]|\xC2[\x80-\x9F]' "$1"; }
flux1 info --json "$pictures/controls.png"
controls ../out && fail "info --json prints control characters: $(od -c ../out)"
grep -q '"a \\u009b31mred\\u001b\[2J föx"' ../out || fail "they are escapes there: $(cat ../out)"
flux1 info "$pictures/controls.png"
controls ../out && fail "info prints control characters: $(od -c ../out)"
grep -q '^a ?31mred?\[2J föx$' ../out || fail "they are blanked: $(cat ../out)"
refused 2 '^flux1: --width 6\?31m4: ' generate -m "$tiny" -p x -W "$(printf '6\302\23331m4')"
controls ../err && fail "a message prints control characters: $(od -c ../err)"
# ComfyUI's graphs
flux1 info --json "$pictures/comfy_dev.png"
[ "$("$VALUE" request.prompt <../out)" = 'a red fox, "Füchse" 狐' ] || fail "the prompt of ComfyUI's graph: $(cat ../out)"
[ "$("$VALUE" request.seed <../out) $("$VALUE" request.guidance <../out)" = "18446744073709551615 2.5" ] || fail "seed and guidance of ComfyUI's graph: $(cat ../out)"
[ "$("$VALUE" request.lora.0 <../out)" = flux/paper.safetensors:0.8 ] || fail "the LoRA of ComfyUI's graph: $(cat ../out)"
refused 1 'flux/paper.safetensors' generate -m "$tiny" --from "$pictures/comfy_dev.png" -q
for name in comfy_ksampler comfy_workflow; do
    flux1 generate -m "$tiny" --from "$pictures/$name.png" -o "$name.png"
    expect_status 0 "$name.png of ComfyUI"
    flux1 info --json "$name.png"
    [ "$("$VALUE" request.prompt <../out) $("$VALUE" request.seed <../out) $("$VALUE" request.steps <../out) $("$VALUE" width <../out)" = "two owls 5 2 32" ] ||
        fail "$name.png is repeated: $(cat ../out)"
done
flux1 generate -m "$tiny" --from "$pictures/comfy_ksampler.png" -o again.png
grep -q 'not repeated: sampler, scheduler$' ../err || fail "ComfyUI's sampler is not repeated, and this is told: $(cat ../err)"
grep -q 'made by ComfyUI.*another one of the same request' ../err || fail "a seed of ComfyUI's is another picture here: $(cat ../err)"
flux1 generate -m "$tiny" --from "$pictures/comfy_part.png" -o part.png --json
grep -q 'warning: .*comfy_part.png: ignored, of ComfyUI.s sampler: add_noise, start_at_step;' ../err || fail "a part of the steps is ignored aloud: $(cat ../err)"
"$VALUE" warnings.0 <../out | grep -q start_at_step || fail "in the answer too: $(cat ../out)"
refused 1 'several samplers' generate -m "$tiny" --from "$pictures/comfy_two.png"
refused 1 'does not say how it was made' generate -m "$tiny" --from "$pictures/other_prompt.png"
head -c 300 "$pictures/a1111_be.jpg" >cut.jpg
refused 1 'cut.jpg: not a readable JPEG: it is cut short' generate -m "$tiny" --from cut.jpg
refused 1 'cut short' info cut.jpg
refused 1 'is not a PNG, JPEG or WebP picture' generate -m "$tiny" --from "$0"
# what is no picture, or a broken one, is called what it is
: >empty.png
printf 'GIF89a\1\0\1\0' >moving.gif
printf 'GIF89a\1\0\1\0' >wrong.png
printf 'hello, this is a text' >text.jpg
for command in info "generate -m $tiny --from"; do
    refused 1 '^flux1: empty.png: the file is empty$' $command empty.png
    refused 1 '^flux1: wrong.png: is not a PNG, JPEG or WebP picture$' $command wrong.png
    refused 1 '^flux1: text.jpg: is not a PNG, JPEG or WebP picture$' $command text.jpg
    refused 1 '^flux1: nowhere.png: cannot open: ' $command nowhere.png
done
refused 1 '^flux1: moving.gif: a picture \(GIF\), .*of pictures PNG, JPEG and WebP are read$' info moving.gif
for command in decode "generate -m $tiny -p x --latents"; do
    refused 1 '^flux1: empty.png: the file is empty; fetch it again$' $command empty.png
    refused 1 '^flux1: one.png: a picture \(PNG\), not weights or latents' $command one.png
done

# a text that is damaged is not one that is missing; what is left of the request is repeated
flux1 $draw -p owl -o whole.png
LC_ALL=C sed 's/"steps": 1/"steps": 3/' whole.png >half.png
LC_ALL=C sed 's/Steps: 1/Steps: 3/' half.png >none.png
flux1 generate -m "$tiny" --from half.png -q -o half2.png
expect_status 0 "a picture with one of its two texts"
flux1 generate -m "$tiny" --from half.png -o half2.png
grep -q '^flux1: warning: half.png: its text "flux1" is damaged; ' ../err || fail "the damaged one is told of: $(cat ../err)"
cmp -s whole.png half2.png || fail "the other one repeats the picture"
flux1 info half.png
grep -q '^owl$' ../out || fail "info prints the text that is left: $(cat ../out)"
grep -q '^flux1: warning: half.png: its text "flux1" is damaged; ' ../err || fail "and tells of the other: $(cat ../err)"
refused 1 '^flux1: --from none.png: its text "parameters" is damaged; get the picture again' generate -m "$tiny" --from none.png
flux1 info none.png
grep -q '^its text "parameters" is damaged; get the picture again' ../out || fail "info says so: $(cat ../out)"

# a JPEG has room for 64 KiB, and says what it leaves out; a preview of it says so once
awk 'BEGIN { for (i = 0; i < 7000; i++) printf "a red fox " }' >../long
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "a red fox " }' >../longish
for format in png webp jpg; do
    flux1 generate -m "$tiny" --prompt-file ../long -S 5 -s 2 -W 32 -H 32 -o "long.$format" --preview "p.$format" --preview-every 1
    if [ "$status" -ne 0 ] && grep -q 'made without' ../err; then continue; fi
    expect_status 0 "a long prompt in a $format"
    grep 'flux1: warning: [a-z]*\.' ../err >../warnings
    flux1 info --json "long.$format"
    "$VALUE" request.prompt <../out >../prompt 2>/dev/null
    case $format in
    jpg)
        [ "$(cut -d: -f1-4 ../warnings | sort | tr '\n' ' ')" = 'flux1: warning: long.jpg: prompt and settings are left out flux1: warning: p.jpg: prompt and settings are left out ' ] ||
            fail "what is left out of long.jpg and its preview is told once: $(cat ../warnings)"
        grep -q 'long.jpg: .*64 KiB; a PNG or WebP keeps them$' ../warnings || fail "and what keeps it"
        ;;
    *)
        [ ! -s ../warnings ] || fail "long.$format: $(cat ../warnings)"
        [ "$(cat ../prompt)" = "$(cat ../long)" ] || fail "long.$format has its prompt"
        ;;
    esac
done
flux1 generate -m "$tiny" --prompt-file ../longish -S 5 -s 1 -W 32 -H 32 -o long.jpg --json
if [ "$status" -eq 0 ]; then
    "$VALUE" warnings.1 <../out | grep -q "^long.jpg: the parameters that other programs read (EXIF) are left out, flux1's own are in it: " || fail "one of two: $(cat ../out)"
    flux1 info --json long.jpg
    [ "$("$VALUE" request.prompt <../out)" = "$(cat ../longish)" ] || fail "the other is there"
fi

# a failure of the third picture leaves two, and lists them
rm -rf ./*
mkdir taken-2.png
flux1 $draw -p x -n 3 -o taken.png --batch 1 --json
expect_status 1 "a name that is a folder"
[ "$("$VALUE" images.# <../out)" = 1 ] || fail "--json lists what was finished: $(cat ../out)"
[ "$("$VALUE" images.0.file <../out)" = taken-1.png ] || fail "by its name"
exists taken-1.png
flux1 generate -m "$tiny" -p x -S 5 -s 1 -W 32 -H 32 -n 3 -o taken.png --batch 1
[ "$(cat ../out)" = taken-1.png ] || fail "names are printed as pictures are finished"
grep -q '1 of 3 pictures' ../err || fail "and it is told how many there are"
[ -z "$(find . -name '*.tmp')" ] || fail "temporary files were left"
finish
