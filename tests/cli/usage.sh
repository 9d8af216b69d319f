#!/bin/sh
# Wrong usage: one sentence that names the option, its value and what is right; exit status 2. Help and version work without a model.
. "$(dirname "$0")/lib.sh"

refused 2 'no command; try'
refused 2 'did you mean generate' genrate
refused 2 'unknown command "frobnicate"' frobnicate
refused 2 '"a red owl" is not a command; is it a prompt\? flux1 generate --prompt' "a red owl"
refused 2 '^flux1: -p goes after a command, such as flux1 generate -p;' -p "a red owl"
refused 2 'did you mean --width' generate --widht 64
refused 2 'unknown option -Z' generate -Z
refused 2 '--verify' generate -m "$tiny" -p x --verify
refused 2 '--steps' decode fox.latents.safetensors --steps 4
refused 2 'unexpected argument "red"; .*quotes' generate -m "$tiny" -p a red fox
refused 2 '--json takes no argument' generate --json=1
refused 2 '--prompt needs an argument' generate -m "$tiny" --prompt
refused 2 '--prompt is given twice' generate -m "$tiny" -p a -p b
refused 2 '--seed is given twice' generate -m "$tiny" -p a -S -1 -S 5
refused 2 '^flux1: negative_prompt: the prompt is not valid UTF-8: .* \(--negative-prompt\)$' generate -m "$tiny" -p a --negative-prompt "$(printf '\377')" --true-cfg-scale 2
refused 2 'needs a prompt: .*--prompts FILE, .*--from PICTURE' generate -m "$tiny"
refused 2 'prompt is empty.*--allow-empty' generate -m "$tiny" -p ''
refused 2 'prompt is empty.*--allow-empty' generate -m "$tiny" --prompt-file /dev/null
refused 2 '--prompt has no value: --steps.*--prompt=--steps' generate -m "$tiny" -p --steps 4
refused 2 '--output has no value: -s' generate -m "$tiny" -p x -o -s 4
refused 2 '--prompt-file: the argument is empty' generate -m "$tiny" --prompt-file ""
refused 2 'unknown option --wid; did you mean --width' generate -m "$tiny" -p x --wid 64
refused 2 'unknown option --guid; did you mean --guidance' generate -m "$tiny" -p x --guid=3
refused 2 'option --max is ambiguous: --max-sequence-length, --max-memory, --max-device-memory' generate -m "$tiny" -p x --max 3
refused 2 'option --prom is ambiguous' generate -m "$tiny" --prom x
refused 2 '--cfg-scale: it is --guidance here.*--true-cfg-scale' generate -m "$tiny" -p x --cfg-scale 1
refused 2 '--guidance_scale: it is --guidance here' generate -m "$tiny" -p x --guidance_scale=3.5
refused 2 '--num-inference-steps: it is --steps here' generate -m "$tiny" -p x --num-inference-steps 4
refused 2 '--batch-count: it is --count here' generate -m "$tiny" -p x --batch-count 2
refused 2 '-t: .*--threads' generate -m "$tiny" -p x -t 2
refused 2 '--sampling-method: there is none' generate -m "$tiny" -p x --sampling-method euler
refused 2 '--diffusion-model: it is --transformer here' generate -m "$tiny" -p x --diffusion-model x
refused 2 '--verbose cannot be combined with --quiet' generate -m "$tiny" -p x -v -q
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
refused 2 'cache-size limits a cache folder, and there is none.*--cache DIR or FLUX1_CACHE_DIR' generate -m "$tiny" -p x --cache-size 8G
refused 1 'sd.safetensors: nothing in it is for FLUX.1.*Stable Diffusion' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/sd.safetensors" -p x
refused 1 'vera.safetensors: it has VeRA .*merge it with the program that made it' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/vera.safetensors:-1" -p x
refused 1 'kohya.*is for a layer of shape.*another model' generate -m "$PIPELINES/wide" --lora "$PIPELINES/../files/lora/kohya.safetensors" -p x
refused 2 'kohya.safetensors:nan: after the last colon goes the scale' generate -m "$PIPELINES/schnell" --lora "$PIPELINES/../files/lora/kohya.safetensors:nan" -p x
flux1 generate -m "$tiny" -p "a <lora:detail:0.5> fox" -S 1 -o x.png -s 1 -W 32 -H 32
grep -q '^flux1: warning: <lora:detail:0.5> is a part of the prompt here, .*--lora detail:0.5 does$' ../err || fail "a tag of an adapter is told of: $(cat ../err)"
rm -f x.png
refused 1 'nowhere.safetensors: there is no such adapter here, .*FLUX1_PATH' generate -m "$tiny" --lora nowhere.safetensors:0.5 -p x
refused 1 'nowhere.safetensors: there is no such adapter here' info "$tiny" --lora nowhere.safetensors:0.5
refused 2 'kohya.safetensors:nan: after the last colon goes the scale' info "$tiny" --lora "$PIPELINES/../files/lora/kohya.safetensors:nan"
refused 2 '--lora is planned with a model and cannot be combined with --devices' info --devices --lora x
refused 2 '--compare -: reports are read from files' bench --compare "$tiny/model_index.json" -
# what does not fit is said before anything is timed; a plan alone is made all the same
refused 1 'timing vae decode takes .* of host memory .*--max-memory' bench -m "$tiny" -W 1024 -H 1024 --max-memory 60M
refused 1 'timing dit step takes .*--max-memory' bench -m "$tiny" --stage dit --max-memory 1M
refused 1 'decoding takes .*--max-memory' bench -m "$tiny" --runs 1 -W 1024 -H 1024 --max-memory 60M
flux1 bench -m "$tiny" --stage dit --repeats 0 --max-memory 1M
expect_status 0 "bench that only plans"
mkdir ../alone
cp "$PIPELINES/../files/gguf/flux1.gguf" ../alone/flux1.gguf
refused 1 'missing: clip, t5, vae;.*flux1 pull.* \(--clip, --t5, --vae\)$' generate --transformer ../alone/flux1.gguf -p x
refused 1 'org/name is not in.*flux1 pull org/name' generate -m org/name -p x

for part in transformer text_encoder text_encoder_2 vae; do cp -r "$PIPELINES/packed/$part" ../alone/; done
refused 1 'no tokenizers are named.*tokenizer_2 \(--tokenizers\)$' generate --transformer ../alone/transformer --clip ../alone/text_encoder --t5 ../alone/text_encoder_2 --vae ../alone/vae -p x
# the library names things, the command line the options
flux1 generate -m "$tiny" -p x -S 1 -o x.png --true-cfg-scale 3 -s 1 -W 32 -H 32
grep -q '^flux1: warning: true_cfg_scale 3 is ignored: .* (--true-cfg-scale)$' ../err || fail "a warning names its option: $(cat ../err)"
rm x.png
refused 2 'folder of several parts; say which one is meant: .* \(--part\)$' convert "$tiny" ../x.gguf
refused 2 'GGUF has no type fp8; .* \(--type\)$' convert "$tiny/vae" ../x.gguf --type fp8
refused 1 'no weights of the file variant "fp99" \(--file-variant\)$' convert "$tiny/vae" ../x.safetensors --file-variant fp99
refused 1 'kohya.safetensors: a LoRA, which is added to a model \(--lora\)$' generate -m "$PIPELINES/../files/lora/kohya.safetensors" -p x
# what is named once is named: empty arguments, folders
refused 2 'an argument of info is empty; it takes PATH' info ""
refused 2 'an argument of convert is empty; it takes IN OUT' convert x ""
: >../plain
refused 1 '^flux1: the cache folder ../plain: exists and is not a folder; move it away or name another folder \(--cache\)$' generate -m "$tiny" -p x --cache ../plain
refused 1 '^flux1: ../plain: exists and is not a folder; move it away or name another folder$' generate -m "$tiny" -p x --output-dir ../plain
# a name with control characters makes no other line and no command of the terminal
odd=$(printf 'a\nb\033[31m')
refused 1 '^flux1: a b \[31m: ' generate -m "$odd" -p x
refused 1 '^flux1: a b \[31m/x.png: ' generate -m "$tiny" -p x -o "$odd/x.png"
flux1 info "$odd"
expect_status 1 "info of a folder that is not there"
grep -q '^path  *a?b?\[31m$' ../out || fail "info prints its name blanked: $(cat ../out)"
[ "$(tr -d '\n' <../out | LC_ALL=C tr -d '\040-\176' | wc -c)" -eq 0 ] || fail "info prints control characters: $(od -c ../out)"
printf '{"prompt": "x", "a\\u001bb\\u009bc": 1}\n' | "$FLUX1" generate -m "$tiny" --jsonl >../out 2>../err
"$VALUE" message <../out | grep -q '^unknown key "a b c"; ' || fail "a key of a line: $(cat ../out)"
grep -q 'unknown key "a?b?c"; ' ../err || fail "on standard error: $(cat ../err)"
mkdir "$odd"
flux1 generate -m "$tiny" -p x -S 1 -s 1 -W 32 -H 32 -q -o "$odd/x.png"
[ "$(cat ../out)" = "$odd/x.png" ] || fail "a program gets the name as it is: $(cat ../out)"
rm -r "$odd"

# a standard stream that is closed is no place for the next file that is opened
mkfifo ../lines
"$FLUX1" tokenize -m "$tiny" --jsonl <../lines >&- 2>&- &
pid=$!
exec 3>../lines
for _ in $(seq 300); do
    held=$(readlink "/proc/$pid/fd/1" "/proc/$pid/fd/2" | tr '\n' ' ')
    [ "$held" != '/dev/null /dev/null ' ] || break
    sleep 0.1
done
exec 3>&-
wait $pid
[ "$held" = '/dev/null /dev/null ' ] || fail "closed streams are held: $held"
"$FLUX1" tokenize -m "$tiny" -p x >&- 2>../err && fail "a result that nobody can read is no success"
grep -q '^flux1: standard output: cannot write: ' ../err || fail "it is told of: $(cat ../err)"
for bad in 0 -64 1.5 64x "" 99999999999 0x40 " 64" +64; do
    refused 2 '^flux1: --width .*from 1 to' generate -m "$tiny" -p x -W "$bad"
done
for bad in 0 -1 many; do refused 2 '^flux1: --steps .*from 1 to' generate -m "$tiny" -p x -s "$bad"; done
for bad in 18446744073709551616 -2 1e3 "" 340282366920938463463374607431768211456; do
    refused 2 '^flux1: --seed .*18446744073709551615' generate -m "$tiny" -p x -S "$bad"
done
refused 2 '--seed 18446744073709551615 --count 2' generate -m "$tiny" -p x -S 18446744073709551615 -n 2
for bad in nan inf -1 1e999 3,5 "" 0x3; do refused 2 '^flux1: --guidance .*must be a number' generate -m "$tiny" -p x -g "$bad"; done
for bad in 0 8X G -1 nan 1e3G "8 G" 99999999999G 1.2.3G; do
    refused 2 "^flux1: --max-memory $bad: must be a size above 0 and below 8388608T: .*8G" generate -m "$tiny" -p x --max-memory "$bad"
done
for option in --max-memory --threads --dtype --steps --guidance; do refused 2 "^flux1: $option \"\": must be" generate -m "$tiny" -p x $option ""; done
refused 2 'auto\|f32\|bf16\|fp8' generate -m "$tiny" -p x --dtype f8
refused 2 '--preview FILE' generate -m "$tiny" -p x --preview-every 2
refused 2 '--preview-kind needs --preview FILE' generate -m "$tiny" -p x --preview-kind vae
refused 2 'rgb\|vae' generate -m "$tiny" -p x --preview x.png --preview-kind taesd
refused 2 '--preview x.gif: .*PNG, JPEG or WebP' generate -m "$tiny" -p x --preview x.gif
refused 2 '--preview -: ' generate -m "$tiny" -p x --preview -
refused 2 'PNG, JPEG or WebP' generate -m "$tiny" -p x -o fox.gif
refused 2 'one picture' generate -m "$tiny" -p x -n 2 -o -
refused 2 'json: both' generate -m "$tiny" -p x --json -o -
refused 2 'ends like a png' generate -m "$tiny" -p x -o x.png --format jpeg
refused 2 'PNG has no quality' generate -m "$tiny" -p x --quality 5
refused 2 '--device tpu: must be one of cpu\|' generate -m "$tiny" -p x --device tpu
for bad in cuda: cuda:x cuda0 cud cpu:0 ""; do refused 2 '--device .*must be one of' generate -m "$tiny" -p x --device "$bad"; done
refused 2 '--encoder-device foo: must be one of host\|' generate -m "$tiny" -p x --encoder-device foo
refused 2 '--width 65537' generate -m "$tiny" -p x -W 65537
refused 2 '--preview FILE' generate -m "$tiny" --jsonl --preview-every 2
refused 2 '--devices .*cannot be combined' info --devices "$tiny"
refused 2 '--verify .*cannot be combined with --devices' info --devices --verify
refused 2 '--verify .*cannot be combined with a picture' info nowhere.png --verify
for option in --host --port; do refused 2 "--socket cannot be combined with $option: " serve -m "$tiny" --socket s $option 1; done
for option in --hostfile --processes; do refused 2 "^flux1: $option needs a mesh, .*--mesh 2x4" generate -m "$tiny" -p x $option 1; done
refused 2 'unexpected argument "bar"' help generate bar
refused 2 'unexpected argument "x"' version x
refused 2 'unexpected argument "zsh"' completion bash zsh
refused 2 'mesh .*2by4.*ROWSxCOLUMNS.*--mesh' generate -m "$tiny" -p x --mesh 2by4
refused 2 'mesh|sp ' generate -m "$tiny" -p x --mesh 2x2 --sp 3@0
refused 2 '--stage cannot be combined with --runs' bench --runs 2 --stage vae
refused 2 'compared by --compare a.json B.json' bench a.json
refused 2 'needs two reports' bench --compare a.json
refused 2 'unexpected argument "c"; bench takes two' bench --compare a b c
refused 2 '--stage cannot be combined with --compare' bench --compare a b --stage vae
refused 1 'nowhere.json.*No such file' bench --compare nowhere.json b
refused 2 'bash, zsh, fish' completion tcsh

refused 2 'machine "wh-t4k".*wh-t3k' plan --machine wh-t4k
refused 2 'sp "3@0".*--sp' plan --machine wh-t3k --sp 3@0
refused 2 'end in .svg.*--timeline' plan --machine wh-t3k --timeline step.png
refused 2 '--variant cannot be combined with --model' plan --variant dev --model "$tiny"

for command in generate tokenize info bench plan cache doctor; do
    flux1 $command --help
    expect_status 0 "$command --help"
    "$FLUX1" help $command >../help || fail "help $command"
    cmp -s ../out ../help || fail "help $command and $command --help agree"
    grep -q -- --json ../out || fail "$command --help lists options"
done
# What is said of other commands ("; decode: …") is in the man page only; the command's own default takes the other's place.
commands='generate|decode|tokenize|info|bench|plan|run-plan|trial|cache|pull|convert|serve|doctor'
for command in $(echo $commands | tr '|' ' '); do
    "$FLUX1" help $command | tr -s ' \n' ' ' >../help-$command
    ! grep -E "[;.] ($commands)(, ($commands))*: " ../help-$command || fail "help $command speaks of other commands"
done
says() { grep -qF -- "$2" ../help-$1 || fail "help $1 says: $2"; }
says generate "width of the picture (default: the model's) "
says decode "width of the picture (default: the latents') "
says bench "cache (default: synthetic weights) "
says run-plan "cache (default: the recording's) "
says info 'or org/name; plan with it '
says generate 'answer each with one on standard output; a request per line'
for topic in help version completion; do
    flux1 help $topic
    expect_status 0 "help $topic"
    grep -q "^flux1 $topic" ../out || fail "help $topic: $(cat ../out)"
done
flux1 completion --help
expect_status 0 "completion --help"
grep -q 'bashrc' ../out || fail "completion --help says where it goes"
refused 2 'did you mean generate' help genrate
flux1 -V
cp ../out ../version
flux1 --version
cmp -s ../out ../version || fail "-V is --version: $(cat ../version)"
grep -Eq '^flux1 [0-9]+\.[0-9]+\.[0-9]+$' ../out || fail "--version: $(cat ../out)"
"$FLUX1" completion bash >../bash && "$FLUX1" completion zsh >../zsh && "$FLUX1" completion fish >../fish || fail "completions"
for shell in bash zsh fish; do
    grep -q max-sequence-length ../$shell || fail "$shell completion knows the options"
    if command -v $shell >/dev/null; then $shell -n ../$shell || fail "$shell reads its completion"; fi
done
# what bash offers
offers() { # words so far (the last one is being typed), expected
    command -v bash >/dev/null || return 0
    [ "$(bash -c '. ../bash; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _flux1; echo "${COMPREPLY[*]}"' - "$1" 2>/dev/null)" = "$2" ] || fail "completion of $1"
}
offers 'flux1 help comp' completion
offers 'flux1 help gen' generate
offers 'flux1 generate --device c' 'cpu cuda'
offers 'flux1 generate --device r' ref
offers 'flux1 generate --encoder-device h' host
offers 'flux1 generate --vae-tiling a' auto
offers 'flux1 cache v' verify
: >weights.gguf
offers 'flux1 info weights' weights.gguf
offers 'flux1 convert weights' weights.gguf
rm weights.gguf
grep -q "seen_subcommand_from help' -a 'generate" ../fish || fail "fish completes help"
grep -q "device:(cpu cuda ttnn ref)" ../zsh || fail "zsh completes --device"
# what zsh and fish offer where they are installed: zsh's own function sees the words of an option, fish is asked for the candidates
if command -v fish >/dev/null; then
    for row in 'flux1 help comp=completion' 'flux1 generate --device c=cpu cuda' 'flux1 cache v=verify' 'flux1 generate --dtype bf=bf16' 'flux1 completion z=zsh'; do
        got=$(HOME=$work XDG_CONFIG_HOME=$work fish -c 'source ../fish; complete -C "$argv[1]"' "${row%%=*}" 2>/dev/null | cut -f1 | sort | tr '\n' ' ')
        [ "${got% }" = "${row#*=}" ] || fail "fish completes ${row%%=*}: $got"
    done
fi
if command -v zsh >/dev/null; then
    got=$(zsh -fc 'compdef() { :; }; source ../zsh; _arguments() { print -r -- "$@"; }; words=(flux1 generate --device ""); CURRENT=4; _flux1' 2>&1)
    case $got in *'device:(cpu cuda ttnn ref)'*) ;; *) fail "zsh's function gives _arguments the words of --device: $got" ;; esac
    got=$(zsh -fc 'compdef() { :; }; source ../zsh; _values() { print -r -- "$@"; }; words=(flux1 help ""); CURRENT=3; _flux1' 2>&1)
    case $got in *convert*completion*) ;; *) fail "zsh's function gives the topics of help: $got" ;; esac
fi

# the man page: every section, no warning, every variable of the environment that the sources read
"$FLUX1" --man >../man
for section in SYNOPSIS COMMANDS OPTIONS JSON NAMES METADATA ENVIRONMENT FILES 'EXIT STATUS' EXAMPLES; do
    grep -q "^\.SH $section\$" ../man || fail "the man page has no section $section"
done
if command -v mandoc >/dev/null; then
    mandoc -T lint ../man >../err 2>&1 || fail "mandoc's lint"
    : >../err
fi
if command -v groff >/dev/null; then
    [ -z "$(groff -man -Kutf8 -Tutf8 -ww ../man 2>&1 >/dev/null)" ] || fail "groff warns of the man page"
fi
for variable in $(grep -rhoE '(getenv|variable|several)\("[A-Z][A-Z0-9_]+"|"(HF|HUGGING|HUGGINGFACE)_[A-Z_]+"|"FLUX1_[A-Z_]+" *$' "$DOCS/../src" | grep -oE '[A-Z][A-Z0-9_]+[A-Z0-9]' | sort -u); do
    case $variable in OMPI_*_SIZE | PMI_SIZE | SLURM_*TASKS) continue ;; esac # "the number of processes"
    grep -q "$variable" ../man || fail "the man page does not name $variable, which the sources read"
done
cmp -s ../man "$DOCS/flux1.1" || fail "docs/flux1.1 is not what flux1 --man prints: build/flux1 --man > docs/flux1.1"
finish
