#!/bin/sh
# Wrong usage: one sentence that names the option, its value and what is right; exit status 2. Help and version work without a model.
. "$(dirname "$0")/lib.sh"

refused 2 'no command; try'
refused 2 'did you mean generate' genrate
refused 2 'unknown command "frobnicate"' frobnicate
refused 2 'did you mean --width' generate --widht 64
refused 2 'unknown option -Z' generate -Z
refused 2 '--verify' generate -m "$tiny" -p x --verify
refused 2 'unexpected argument "red"; .*quotes' generate -m "$tiny" -p a red fox
refused 2 '--json takes no argument' generate --json=1
refused 2 '--prompt needs an argument' generate -m "$tiny" --prompt
refused 2 '--prompt is given twice' generate -m "$tiny" -p a -p b
refused 2 'needs a prompt' generate -m "$tiny"
refused 2 'cannot be combined with --prompt-file' generate -m "$tiny" -p a --prompt-file b
refused 2 'no model.*--model' generate -p x
refused 2 '--prompt cannot be combined with --jsonl' tokenize -m "$tiny" --jsonl -p x
refused 2 'PATH' info
refused 2 'unexpected argument "b"' info a b
refused 2 'list, verify, clear, size' cache
refused 2 'list, verify, clear, size' cache purge
refused 2 'no cache folder.*FLUX1_CACHE_DIR.*--cache' cache list
refused 1 'nowhere.*No such file' cache size --cache nowhere
refused 2 'cache-size .*8G' generate -m "$tiny" -p x --cache-size no
refused 1 'sd.safetensors: nothing in it is for FLUX.1.*Stable Diffusion' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/sd.safetensors" -p x
refused 1 'oft.safetensors: it has OFT' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/oft.safetensors:-1" -p x
refused 1 'kohya.*is for a layer of shape.*another model' generate -m "$PIPELINES/wide" --lora "$PIPELINES/../files/lora/kohya.safetensors" -p x
refused 2 'kohya.safetensors:nan: behind the last colon should be the scale' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/kohya.safetensors:nan" -p x
refused 1 'nowhere.*No such file' generate -m "$tiny" --lora nowhere.safetensors:0.5 -p x
mkdir ../alone
cp "$PIPELINES/../files/gguf/flux1.gguf" ../alone/flux1.gguf
refused 1 'missing.*--clip, --t5, --vae.*flux1 pull' generate --transformer ../alone/flux1.gguf -p x
refused 1 'org/name is not in.*flux1 pull org/name' generate -m org/name -p x

for part in transformer text_encoder text_encoder_2 vae; do cp -r "$PIPELINES/packed/$part" ../alone/; done
refused 1 'no tokenizers are named' generate --transformer ../alone/transformer --clip ../alone/text_encoder --t5 ../alone/text_encoder_2 --vae ../alone/vae -p x
for bad in 0 -64 1.5 64x "" 99999999999 0x40 " 64" +64; do
    refused 2 '^flux1: --width .*from 1 to' generate -m "$tiny" -p x -W "$bad"
done
for bad in 0 -1 many; do refused 2 '^flux1: --steps .*from 1 to' generate -m "$tiny" -p x -s "$bad"; done
for bad in 18446744073709551616 -1 1e3 "" 340282366920938463463374607431768211456; do
    refused 2 '^flux1: --seed .*18446744073709551615' generate -m "$tiny" -p x -S "$bad"
done
refused 2 '--seed 18446744073709551615 --count 2' generate -m "$tiny" -p x -S 18446744073709551615 -n 2
for bad in nan inf -1 1e999 3,5 "" 0x3; do refused 2 '^flux1: --guidance .*must be a number' generate -m "$tiny" -p x -g "$bad"; done
for bad in 0 8X G -1 "" 1.2.3G; do refused 2 '^flux1: --max-memory .*8G' generate -m "$tiny" -p x --max-memory "$bad"; done
refused 2 'auto\|f32\|bf16\|fp8' generate -m "$tiny" -p x --dtype f8
refused 2 '--preview FILE' generate -m "$tiny" -p x --preview-every 2
refused 2 'PNG' generate -m "$tiny" -p x -o fox.jpg
refused 2 'standard output' generate -m "$tiny" -p x -o -
refused 2 'mesh .*2by4.*ROWSxCOLUMNS.*--mesh' generate -m "$tiny" -p x --mesh 2by4
refused 2 'mesh|sp ' generate -m "$tiny" -p x --mesh 2x2 --sp 3@0
refused 2 '--stage cannot be combined with --runs' bench --runs 2 --stage vae
refused 2 'bash, zsh, fish' completion tcsh

refused 2 'machine "wh-t4k".*wh-t3k' plan --machine wh-t4k
refused 2 'sp "3@0".*--sp' plan --machine wh-t3k --sp 3@0
refused 2 'end in .svg.*--timeline' plan --machine wh-t3k --timeline step.png
refused 2 '--variant cannot be combined with --model' plan --variant dev --model "$tiny"

for command in generate tokenize info bench plan cache; do
    flux1 $command --help
    expect_status 0 "$command --help"
    "$FLUX1" help $command >../help || fail "help $command"
    cmp -s ../out ../help || fail "help $command and $command --help agree"
    grep -q -- --json ../out || fail "$command --help lists options"
done
flux1 --version
grep -Eq '^flux1 [0-9]+\.[0-9]+\.[0-9]+$' ../out || fail "--version: $(cat ../out)"
"$FLUX1" completion bash >../bash && "$FLUX1" completion zsh >../zsh && "$FLUX1" completion fish >../fish || fail "completions"
for shell in bash zsh fish; do
    grep -q max-sequence-length ../$shell || fail "$shell completion knows the options"
    if command -v $shell >/dev/null; then $shell -n ../$shell || fail "$shell reads its completion"; fi
done
"$FLUX1" --man >../man
cmp -s ../man "$DOCS/flux1.1" || fail "docs/flux1.1 is not what flux1 --man prints: build/flux1 --man > docs/flux1.1"
finish
