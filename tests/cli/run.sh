#!/bin/sh
# Good runs: pictures, names, sizes, texts, JSON; the same bytes on any number of threads.
. "$(dirname "$0")/lib.sh"

flux1 generate -m "$tiny" -p "a red fox" -o fox.png -S 7
expect_status 0 "a first picture"
[ "$(cat ../out)" = fox.png ] || fail "standard output names the file: $(cat ../out)"
case $("$PICTURE" fox.png) in 64x64\ *) ;; *) fail "the folder's size is 64x64: $("$PICTURE" fox.png)" ;; esac
"$PICTURE" fox.png parameters | grep -q '^a red fox$' || fail "parameters begin with the prompt"
"$PICTURE" fox.png parameters | grep -Eq '^Steps: 4, Sampler: Euler, Schedule type: [A-Za-z]+, CFG scale: 1, Seed: 7, Size: 64x64, Model: [^,]+, Version: flux1 [0-9.]+$' ||
    fail "parameters: $("$PICTURE" fox.png parameters)"
[ "$("$PICTURE" fox.png flux1 | "$VALUE" prompt)" = "a red fox" ] || fail "the flux1 chunk holds the prompt"
[ "$("$PICTURE" fox.png flux1 | "$VALUE" seed)" = 7 ] || fail "the flux1 chunk holds the seed"

for threads in 1 2 3; do
    flux1 generate -m "$tiny" -p "a red fox" -o "threads$threads.png" -S 7 --threads $threads
    expect_status 0 "--threads $threads"
    [ "$("$PICTURE" fox.png)" = "$("$PICTURE" "threads$threads.png")" ] || fail "--threads $threads changes the picture"
done

flux1 generate -m "$tiny" -p "a red fox" -o other.png -S 8
[ "$("$PICTURE" fox.png)" != "$("$PICTURE" other.png)" ] || fail "another seed gives another picture"
FLUX1_MODEL=$tiny "$FLUX1" generate -p "a red fox" -o env.png -S 7 --quiet >../out 2>../err || fail "FLUX1_MODEL names the folder"
[ ! -s ../err ] || fail "--quiet is quiet"
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" env.png)" ] || fail "FLUX1_MODEL gives the same picture"

# the same pipeline with its parts in files of another form; FLUX1_MODEL still names the folder
packed=$PIPELINES/packed files=$PIPELINES/../files
flux1 generate -m "$packed" --transformer "$files/gguf/flux1.gguf" --t5 "$files/gguf/t5.gguf" --clip "$files/gguf/clip.gguf" -p "a red fox" -o parts.png -S 7 -W 32 -H 32
expect_status 0 "parts in GGUF files"
FLUX1_MODEL=$packed "$FLUX1" generate --transformer "$files/bfl/flux1.safetensors" --vae "$files/bfl/ae.safetensors" -p "a red fox" -o bfl.png -S 7 -W 32 -H 32 >../out 2>../err ||
    fail "FLUX1_MODEL has the parts that are not named: $(cat ../err)"
flux1 generate -m "$packed" -p "a red fox" -o folder.png -S 7 -W 32 -H 32
[ "$("$PICTURE" folder.png)" = "$("$PICTURE" bfl.png)" ] || fail "files with BFL's names give the folder's picture"
[ "$("$PICTURE" folder.png)" != "$("$PICTURE" parts.png)" ] || fail "quantised weights give another picture"

# parts that are not named lie in FLUX1_PATH; the same picture, and each choice is said
FLUX1_PATH=$packed "$FLUX1" generate -m ../alone.safetensors -p "a red fox" -o none.png -S 7 >../out 2>../err && fail "a file that is not there"
cp "$files/bfl/flux1.safetensors" ../alone.safetensors
FLUX1_PATH=$packed "$FLUX1" generate -m ../alone.safetensors -p "a red fox" -o found.png -S 7 -W 32 -H 32 >../out 2>../err || fail "parts from FLUX1_PATH: $(cat ../err)"
[ "$("$PICTURE" folder.png)" = "$("$PICTURE" found.png)" ] || fail "parts from FLUX1_PATH give the folder's picture"
grep -q "^flux1: VAE: $packed/vae (found in FLUX1_PATH" ../err || fail "what was chosen is said: $(cat ../err)"
flux1 info -m ../alone.safetensors --tokenizers "$packed" --json
expect_status 1 "info of a transformer alone"
[ "$("$VALUE" missing.# <../out)" = 3 ] || fail "info says what is missing"
"$VALUE" missing.1.get <../out | grep -q '^flux1 pull ' || fail "info says how to get what is missing"
flux1 tokenize -m ../alone.safetensors --tokenizers "$packed" -p "a red fox" --json
expect_status 0 "tokenize with --tokenizers"
flux1 bench -m "$packed" --transformer ../alone.safetensors --stage dit --repeats 0 -W 32 -H 32 --json
expect_status 0 "bench with --transformer"

# org/name in Hugging Face's cache, its name in the picture; the snapshot without a blob
commit=0123456789abcdef0123456789abcdef01234567 repository=$HF_HUB_CACHE/models--org--name
mkdir -p "$repository/refs" "$repository/snapshots"
printf %s $commit >"$repository/refs/main"
cp -r "$tiny" "$repository/snapshots/$commit"
flux1 generate -m org/name -p "a red fox" -o hub.png -S 7
expect_status 0 "org/name"
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" hub.png)" ] || fail "org/name gives the folder's picture"
"$PICTURE" hub.png parameters | grep -q 'Model: org/name,' || fail "the picture tells the model's name"
printf '{"prompt": "a red fox", "seed": 7, "output": "hub-2.png"}\n' | "$FLUX1" generate -q -m org/name@$commit --jsonl >../out 2>../err || fail "org/name@commit: $(cat ../err)"
flux1 info org/name --json
[ "$("$VALUE" repository <../out)" = org/name ] || fail "info says the repository"
ln -sf ../../blobs/absent "$repository/snapshots/$commit/vae/diffusion_pytorch_model.safetensors"
refused 1 'vae/diffusion_pytorch_model.safetensors is missing; to complete it: flux1 pull org/name' generate -m org/name -p x

# adapters: with a scale, at 0, twice, by a line of JSON, in a file whose name ends like a scale
lora=$files/lora/kohya.safetensors schnell=$PIPELINES/schnell
flux1 generate -m "$schnell" -p "a red fox" -o plain.png -S 7 -W 32 -H 32
flux1 generate -m "$schnell" --lora "$lora:0.5" -p "a red fox" -o lora.png -S 7 -W 32 -H 32
expect_status 0 "--lora"
grep -q 'kohya.safetensors: applied 3 of 3 (rank 2, scale 0.5)' ../err || fail "what applies is said: $(cat ../err)"
[ "$("$PICTURE" plain.png)" != "$("$PICTURE" lora.png)" ] || fail "an adapter gives another picture"
flux1 generate -m "$schnell" --lora "$lora:abc" -p "a red fox" -o wrong.png -v
expect_status 2 "a scale that is no number"
[ "$(grep -c 'last colon' ../err)" = 1 ] || fail "-v tells what is wrong with --lora once: $(cat ../err)"
cp -R "$schnell" own
chmod -R u+w own
cp "$lora" own/paper.safetensors
flux1 generate -m own --lora paper -p "a red fox" -o own.png -W 32 -H 32 -s 1 -v
expect_status 0 "--lora of the model's folder, by name"
[ "$(grep -c 'paper: own/paper' ../err)" = 1 ] || fail "-v tells where an adapter is once: $(cat ../err)"
cp "$lora" "half:0.5"
flux1 generate -m "$schnell" --lora "half:0.5:0.5" -p "a red fox" -o named.png -S 7 -W 32 -H 32
[ "$("$PICTURE" named.png)" = "$("$PICTURE" lora.png)" ] || fail "a scale behind a name with a colon"
flux1 generate -m "$schnell" --lora "half:0.5" -p "a red fox" -o whole.png -S 7 -W 32 -H 32
grep -q 'scale 1)' ../err || fail "an existing file of that name wins"
flux1 generate -m "$schnell" --lora "$lora:0.25" --lora "$lora:0.25" -p "a red fox" -o twice.png -S 7 -W 32 -H 32
grep -c 'applied 3 of 3' ../err | grep -qx 2 || fail "--lora twice"
flux1 info "$schnell" --lora "half:0.5:0.5" --lora "$lora" --device ref --json
expect_status 0 "info --lora"
[ "$("$VALUE" adapters.0.scale <../out) $("$VALUE" adapters.1.applied <../out)" = "0.5 3" ] || fail "info lists the adapters: $(cat ../out)"
printf '{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "lora": "%s:0.5", "output": "j-1.png"}\n{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "output": "j-2.png"}\n{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "lora": ["%s:0.5"], "output": "j-3.png"}\n' "$lora" "$lora" >../lines
"$FLUX1" generate -q -m "$schnell" --jsonl <../lines >../out 2>../err || fail "lines with adapters: $(cat ../err)"
[ "$("$PICTURE" j-1.png)" = "$("$PICTURE" lora.png)" ] || fail "a line's adapter"
[ "$("$PICTURE" j-2.png)" = "$("$PICTURE" plain.png)" ] || fail "the next line is without it"
[ "$("$PICTURE" j-3.png)" = "$("$PICTURE" lora.png)" ] || fail "an array of adapters"

# kinds that are merged, at two strengths in one run; what does not apply is named
mixed=$files/lora/golden/mixed.safetensors
flux1 generate -m "$packed" --lora "$mixed:0.5" -p "a red fox" -o merged.png -S 7 -W 32 -H 32
expect_status 0 "a merged adapter"
grep -q 'applied 9 of 9 (LoRA, DoRA, LoHa, LoKr, differences, rank 3, scale 0.5)' ../err || fail "kinds are said: $(cat ../err)"
printf '{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "lora": "%s:-1", "output": "k-1.png"}\n{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "lora": "%s:0.5", "output": "k-2.png"}\n{"prompt": "a red fox", "seed": 7, "width": 32, "height": 32, "output": "k-3.png"}\n' "$mixed" "$mixed" >../lines
"$FLUX1" generate -q -m "$packed" --jsonl <../lines >../out 2>../err || fail "lines with merged adapters: $(cat ../err)"
[ "$("$PICTURE" k-1.png)" != "$("$PICTURE" merged.png)" ] || fail "a strength of its own"
[ "$("$PICTURE" k-2.png)" = "$("$PICTURE" merged.png)" ] || fail "the next strength"
[ "$("$PICTURE" k-3.png)" = "$("$PICTURE" folder.png)" ] || fail "without it again"

# a prompt from a file and from standard input; one newline at the end belongs to the file
printf 'a red fox\n' >prompt.txt
flux1 generate -m "$tiny" --prompt-file prompt.txt -o file.png -S 7
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" file.png)" ] || fail "--prompt-file gives the same picture"
"$FLUX1" generate -m "$tiny" --prompt-file - -o input.png -S 7 <prompt.txt >../out 2>../err || fail "--prompt-file -"
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" input.png)" ] || fail "--prompt-file - gives the same picture"

# through a pipe, with a byte order mark and lines as on Windows
mkfifo ../pipe
printf '\357\273\277a red fox\r\n' >../pipe &
flux1 generate -m "$tiny" --prompt-file ../pipe -o pipe.png -S 7
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" pipe.png)" ] || fail "--prompt-file takes a pipe: $(cat ../err)"
printf 'a red fox' | "$FLUX1" generate -m "$tiny" --prompt-file /dev/stdin -o input.png -S 7 >../out 2>../err || fail "--prompt-file /dev/stdin"
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" input.png)" ] || fail "--prompt-file /dev/stdin gives the same picture"
printf '\377\376a\000' >utf16.txt
refused 1 'utf16.txt: it is UTF-16' generate -m "$tiny" --prompt-file utf16.txt
refused 1 'longer than 1048576' generate -m "$tiny" --prompt-file /dev/zero
refused 1 'cannot read: Is a directory' generate -m "$tiny" --prompt-file .
flux1 generate -m "$tiny" --prompt=--steps -o dash.png -S 7
expect_status 0 "a prompt that is an option's name"
flux1 generate -m "$tiny" -p x -v -o verbose.png
[ "$(wc -l <../err)" = "$(sort -u ../err | wc -l)" ] || fail "-v says something twice: $(cat ../err)"
for what in 'device cpu, kernels for' 'arithmetic [bf][f0-9]' 'memory: at most' 'transformer: F32' 'plan: 64 x 64, 4 steps' 'plan: denoise: .*activations'; do
    grep -q "^flux1: .*$what" ../err || fail "-v says /$what/"
done

# what CLIP does not see is said, whether T5 sees it or not
long="$(yes fox | head -n 100 | tr '\n' ' ')"
flux1 generate -m "$tiny" -p "$long" -W 32 -H 32 -s 2 -o long.png
grep -q "longer than CLIP's 77 tokens: .*T5 sees it whole" ../err || fail "a prompt that CLIP cuts: $(cat ../err)"
grep -q 'T5 tokens' ../err && fail "T5 sees it whole"
flux1 generate -m "$tiny" -p "$long" -W 32 -H 32 -s 2 --max-sequence-length 16 -o long.png
grep -q "longer than CLIP's 77 tokens: CLIP sees its beginning only$" ../err && grep -q 'longer than 16 T5 tokens' ../err || fail "both cut: $(cat ../err)"
grep -Eq '^flux1: denoise: 2 steps, [0-9.]+ s \([0-9.]+ s/step\)$' ../err || fail "seconds a step: $(cat ../err)"

# sizes are rounded down, and it is said
flux1 generate -m "$tiny" -p x -W 79 -H 33 -o odd.png -S 1
expect_status 0 "odd sizes"
case $("$PICTURE" odd.png) in 64x32\ *) ;; *) fail "79x33 becomes 64x32: $("$PICTURE" odd.png)" ;; esac
grep -q 64 ../err && grep -q 79 ../err || fail "rounding is said"

# several pictures: seeds and names
flux1 generate -m "$tiny" -p x -n 3 -S 7 -o many.png --json
expect_status 0 "--count 3"
for i in 1 2 3; do exists many-$i.png; done
absent many.png
[ "$("$VALUE" images.# <../out)" = 3 ] || fail "--json lists three pictures"
[ "$("$VALUE" images.2.file <../out)" = many-3.png ] || fail "--json names the third file"
[ "$("$VALUE" images.2.seed <../out)" = 9 ] || fail "the third picture's seed is 7 + 2"
for key in seconds.load seconds.text seconds.denoise seconds.decode seconds.total peak_rss_bytes; do
    "$VALUE" $key <../out >/dev/null || fail "--json has $key"
done
"$VALUE" warnings <../out >/dev/null && fail "--json has no warnings where there are none"
flux1 generate -m "$tiny" -p x -S 9 -o single.png
[ "$("$PICTURE" single.png)" = "$("$PICTURE" many-3.png)" ] || fail "image i of --count is the picture of seed + i"

# computed together they are the same pictures; each leaves as soon as it is decoded
flux1 generate -m "$tiny" -p x -n 3 -S 7 -o together.png --batch 2
expect_status 0 "--batch 2"
printf 'together-1.png\ntogether-2.png\ntogether-3.png\n' | cmp -s - ../out || fail "the files are named in order: $(tr '\n' ' ' <../out)"
for i in 1 2 3; do
    [ "$("$PICTURE" many-$i.png)" = "$("$PICTURE" together-$i.png)" ] || fail "--batch changes picture $i"
done
mkdir taken-2.png
flux1 generate -m "$tiny" -p x -n 3 -S 7 -o taken.png --batch 1
expect_status 1 "a name that is a folder"
rmdir taken-2.png

# true CFG: the negative prompt counts with a scale above 1 only
flux1 generate -m "$tiny" -p x -S 9 --negative-prompt "a dog" -o scale1.png
expect_status 0 "a negative prompt alone"
grep -q 'negative prompt is ignored' ../err || fail "a negative prompt without a scale gives a warning"
[ "$("$PICTURE" single.png)" = "$("$PICTURE" scale1.png)" ] || fail "a negative prompt alone changes nothing"
flux1 generate -m "$tiny" -p x -S 9 --negative-prompt "a dog" --true-cfg-scale 3 -o scale3.png
expect_status 0 "--true-cfg-scale 3"
[ "$("$PICTURE" single.png)" != "$("$PICTURE" scale3.png)" ] || fail "--true-cfg-scale 3 changes the picture"
flux1 generate -m "$tiny" -p x -S 9 --negative-prompt "" --true-cfg-scale 3 -o empty.png
[ "$("$PICTURE" single.png)" != "$("$PICTURE" empty.png)" ] || fail "an empty negative prompt is one"

# names made from prompt and seed, never one that exists
flux1 generate -m "$tiny" -p "A red fox, at dawn!" -S 42
exists a-red-fox-at-dawn_seed42.png
flux1 generate -m "$tiny" -p "A red fox, at dawn!" -S 42
exists a-red-fox-at-dawn_seed42-2.png
flux1 generate -m "$tiny" -p "../../etc" -S 1
exists etc_seed1.png
flux1 generate -m "$tiny" -p "" --allow-empty -S 18446744073709551615
expect_status 0 "the largest seed and an empty prompt"
exists image_seed18446744073709551615.png
flux1 generate -m "$tiny" -p "any seed"
grep -Eq 'seed [0-9]+' ../err || fail "a random seed is printed"

# --output replaces; a preview and a dump are written beside it
flux1 generate -m "$tiny" -p x -S 1 -o fox.png --preview preview.png --preview-every 2 --dump dump.safetensors
expect_status 0 "preview and dump"
exists preview.png
exists dump.safetensors
"$PICTURE" preview.png >/dev/null || fail "the preview is a picture"
# a size that the model was not trained for: one line, in the answers too
cp -R "$tiny" sized
echo '{"sizes": {"min": 96, "max": 192}}' >sized/flux1.json
far='64x80 is far from what this model was trained for (sides of 96 to 192 pixels): pictures may fall apart'
flux1 generate -m sized -p x -S 1 -n 2 -W 64 -H 80 -s 1 -o far.png --json -v
[ "$(grep -cF "warning: $far" ../err)" = 1 ] || fail "one line warns of the size: $(cat ../err)"
[ "$("$VALUE" warnings.0 <../out)" = "$far" ] || fail "the answer has the warning: $(cat ../out)"
printf '{"prompt": "x", "width": 64, "height": 80, "steps": 1}\n{"prompt": "x", "width": 96, "height": 80, "steps": 1}\n' >lines
flux1 generate -q -m sized --jsonl <lines
[ "$(head -n 1 ../out | "$VALUE" warnings.0)" = "$far" ] || fail "the line's answer has it: $(cat ../out)"
tail -n 1 ../out | "$VALUE" warnings >/dev/null && fail "the next line has none"
flux1 info sized
grep -q 'sides of 96 to 192 pixels' ../out || fail "info tells the sizes"
echo '{"sizes": {"min": "96"}}' >sized/flux1.json
refused 1 'sized/flux1.json: "min" is the text "96"' generate -m sized -p x
# of several pictures each has its own, in the format of the name
flux1 generate -m "$tiny" -p x -S 1 -n 2 -o each%d.png --preview each%d.jpg --preview-kind vae -v
expect_status 0 "previews of two pictures"
[ "$(head -c 2 each2.jpg | od -An -tx1 | tr -d ' ')" = ffd8 ] || fail "a preview has the format of its name"
grep -q 'previews:' ../err && fail "previews by the VAE are no estimate"
flux1 generate -m "$tiny" -p x -S 1 -o fox.png --preview preview.png -v
grep -q 'previews: a linear estimate .* off by [0-9.]* of 255' ../err || fail "-v tells the error of the estimate"
flux1 generate -m "$tiny" -p x -S 1 -o fox.png --preview preview.png
grep -q 'previews:' ../err && fail "only -v does"
[ "$("$PICTURE" fox.png)" = "$("$PICTURE" single.png)" ] && fail "fox.png was replaced by another seed's picture"

# meshes of threads give the picture within rounding: the run must work and the size be right
flux1 generate -m "$tiny" -p x -S 1 -o mesh.png --mesh 1x2
expect_status 0 "--mesh 1x2"
flux1 generate -m "$tiny" -p x -S 1 -o mesh.png --mesh 2x2 --sp 2@0 --tp 2@1
expect_status 0 "--mesh 2x2"

[ -z "$(find . -name '*.tmp')" ] || fail "temporary files were left: $(find . -name '*.tmp')"

# info and bench
export XDG_CACHE_HOME="$work/xdg" # nothing is known of the machine yet
flux1 info "$tiny"
expect_status 0 "info"
grep -q '^ *later peak  *[0-9.]* MiB$' ../out && ! grep -q bytes ../out || fail "what info prints in MiB is not called bytes: $(cat ../out)"
flux1 info "$tiny" --json --verify
expect_status 0 "info --json --verify"
"$VALUE" <../out >/dev/null || fail "info --json is JSON"
flux1 info -m "$tiny" -W 64 -H 64 -s 3 -n 2 --batch 1 --json
expect_status 0 "info -W -H -s -n"
[ "$("$VALUE" request.steps <../out) $("$VALUE" request.pictures <../out)" = "3 2" ] || fail "info heeds -s and -n"
[ "$("$VALUE" request.estimate.4.stage <../out)" = all ] || fail "info ends with an estimate"
flux1 info "$tiny"
[ ! -s ../err ] || fail "what was measured is kept: $(cat ../err)"
flux1 info "$tiny" --encoder-device ref
grep -Eq 'machine +not known: no rates of ref' ../out || fail "no seconds for an encoder device without rates"
flux1 info "$tiny" --dtype int8
grep -Eq 'machine +.*, int8 \(measured' ../out || fail "int8 has rates of its own: $(cat ../out)"
flux1 info "$tiny"
tail -n 1 ../out | grep -Eq '^ +all .* [0-9.]+ s$' || fail "info ends with the line of all stages"
flux1 bench --model "$tiny" --repeats 1 --json
expect_status 0 "bench --json"
"$VALUE" <../out >/dev/null || fail "bench --json is JSON"
flux1 bench --model "$tiny" --repeats 1
expect_status 0 "bench"
for stage in clip t5 'dit opening' 'dit step' 'vae decode'; do
    grep -q "^flux1: $stage: [0-9.]* s$" ../err || fail "bench tells $stage as it is timed: $(cat ../err)"
done
grep -Eq '^vae decode: [0-9.]+ [mu]?s \([0-9.]+ [mu]?s\.\.' ../out || fail "bench has a line for a stage: $(cat ../out)"
grep -Eq '^vae decode, conv [0-9]+x[0-9]+x[0-9]+: .* % of the stage, ' ../out || fail "bench has a line for a kernel: $(cat ../out)"
flux1 bench --model "$tiny" --repeats 3 --stage clip --json
cp ../out one.json
flux1 bench --model "$tiny" --repeats 3 --stage clip --threads 1 --json
cp ../out other.json
flux1 bench --compare one.json other.json --json
expect_status 0 "bench --compare"
[ "$("$VALUE" rows.0.stage <../out)" = clip ] || fail "--compare has a row for each stage"
[ "$("$VALUE" setups_differ.0.what <../out)" = threads ] || fail "--compare names setups that differ"
for tokens in 17/24 33/40 77/77; do
    flux1 bench --model "$tiny" --repeats 0 --stage clip --clip-tokens ${tokens%/*} --json
    [ "$("$VALUE" clip_tokens <../out)/$("$VALUE" stages.0.rows <../out)" = $tokens ] || fail "bench tells the rows that CLIP computes for --clip-tokens $tokens"
done
flux1 bench --model "$tiny" --stage clip --clip-tokens 78
expect_status 2 "a prompt that is too long for CLIP"
grep -q "CLIP has 1 to 77, or 0 for all (--clip-tokens)" ../err || fail "how long it may be: $(cat ../err)"
flux1 bench --model "$tiny" --repeats 0 --stage clip --clip-tokens 0 --json
[ "$("$VALUE" clip_tokens <../out)" = 77 ] || fail "--clip-tokens 0 is all of CLIP's tokens"
flux1 bench --model "$tiny" --runs 2 --steps 2 --mesh 1x2 --json
expect_status 0 "bench --runs"
grep -q '^flux1: run 2 of 2: [0-9.]* s$' ../err || fail "bench --runs tells each run: $(cat ../err)"
[ "$("$VALUE" events.# <../out)" = 8 ] || fail "--runs has encoders, denoising, two steps, vae and total"
flux1 bench --model "$tiny" --repeats 0 --events plan.jsonl --json
expect_status 0 "bench --events"
[ "$("$VALUE" stages.# <../out)" = 5 ] || fail "--repeats 0 still has a row for each stage"
head -n 1 plan.jsonl | "$VALUE" model >/dev/null || fail "the first line of --events describes the run"
[ "$(tail -n 1 plan.jsonl | "$VALUE" stage)" = "vae decode" ] || fail "the last line of --events is the decoder's"

# plan
flux1 plan --machine wh-galaxy --variant dev --timeline step.svg --json
expect_status 0 "plan --json"
[ "$("$VALUE" '#' <../out)" = 7 ] || fail "a 4x8 mesh has seven ways to be used"
[ "$(head -c 4 step.svg)" = "<svg" ] || fail "--timeline writes an SVG"
flux1 plan --machine wh-galaxy --sp 4@0
expect_status 0 "plan"
grep -q 'does not fit' ../out || fail "plan says which ways do not fit"
awk 'length > 120 { exit 1 }' ../out || fail "the tables of plan fit a terminal"
flux1 plan --machine wh-n300 --describe
expect_status 0 "plan --describe"
cp ../out n300.json
flux1 plan --machine n300.json --model "$tiny" --json
expect_status 0 "plan --machine FILE"
echo '{"mesh": [1, 2], "mesk": 1}' >bad.json
flux1 plan --machine bad.json
expect_status 1 "a bad machine file"
grep -q 'bad.json: unknown key "mesk"' ../err || fail "a bad machine file is named: $(cat ../err)"

# a reader that went away is a failure, not a success
"$FLUX1" info "$tiny" >/dev/full 2>../err
[ $? -eq 1 ] || fail "a full standard output is told"
finish
