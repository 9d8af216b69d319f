#!/bin/sh
# Bad input: one clear sentence, a non-zero exit status, nothing left behind.
. "$(dirname "$0")/lib.sh"
model=../model
dit=$model/transformer/diffusion_pytorch_model.safetensors
vae=$model/vae/diffusion_pytorch_model.safetensors

fresh() { # a copy of a pipeline that may be broken
    chmod -R u+w $model 2>/dev/null
    rm -rf $model
    cp -rL "$PIPELINES/${1:-schnell}" $model
    chmod -R u+w $model
}
run() { # status, pattern
    refused "$1" "$2" generate -m $model -p x -S 1 -o x.png --quiet
}
# A safetensors file with the given header and zeros for data.
safetensors() { # file, header, data bytes
    length=${#2}
    {
        printf "$(printf '\\%03o\\%03o\\0\\0\\0\\0\\0\\0' $((length % 256)) $((length / 256)))"
        printf %s "$2"
        head -c "$3" /dev/zero
    } >"$1"
}

# ---- the folder
refused 1 'nowhere' generate -m nowhere -p x -o x.png
refused 1 'empty|model_index|transformer' generate -m ../run -p x -o x.png
: >../file
refused 1 'file' generate -m ../file -p x -o x.png
for part in transformer vae text_encoder text_encoder_2 tokenizer tokenizer_2 scheduler; do
    fresh
    rm -r "${model:?}/$part"
    run 1 "$part"
done
fresh
rm $model/transformer/config.json
run 1 'transformer/config.json'
fresh
rm $dit
run 1 'transformer'
fresh dev
rm $model/transformer/*-00002-of-*.safetensors
run 1 '00002-of-'

# ---- JSON
fresh
head -c 100 "$tiny/transformer/config.json" >$model/transformer/config.json
run 1 "transformer/config.json:[0-9]+:[0-9]+"
fresh
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "[" }' >$model/vae/config.json
run 1 'vae/config.json.*deep|vae/config.json.*nest|vae/config.json.*level'
fresh
sed 's/"num_layers": 1/"num_layers": "one"/' "$tiny/transformer/config.json" >$model/transformer/config.json
run 1 'transformer/config.json.*num_layers'
fresh
sed 's/"num_layers": 1/"num_layers": -1/' "$tiny/transformer/config.json" >$model/transformer/config.json
run 1 'transformer/config.json.*num_layers'
fresh
: >$model/scheduler/scheduler_config.json
run 1 'scheduler_config.json'
fresh
sed 's/"num_attention_heads": 2/"num_attention_heads": 1000000/' "$tiny/transformer/config.json" >$model/transformer/config.json
run 1 'transformer'
fresh
printf '{"a": 1, "a": 2' >$model/text_encoder/config.json
run 1 'text_encoder/config.json'

# ---- safetensors
fresh
printf '\377\377\377\377\377\377\377\177{}' >$dit
run 1 'diffusion_pytorch_model.safetensors.*header'
fresh
: >$dit
run 1 'diffusion_pytorch_model.safetensors'
fresh
head -c 200000 "$tiny/transformer/diffusion_pytorch_model.safetensors" >$dit
run 1 'diffusion_pytorch_model.safetensors'
fresh
safetensors $dit '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}' 24
run 1 'overlap|"b"|"a"'
fresh
safetensors $dit '{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}' 16
run 1 '"a"'
fresh
safetensors $dit '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}' 16
run 1 'diffusion_pytorch_model.safetensors'
fresh
safetensors $dit '{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,16]}}' 16
run 1 '"a"'
fresh
safetensors $dit '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' 16
run 1 'diffusion_pytorch_model.safetensors'
fresh
safetensors $dit '{"a":{"dtype":"Q99","shape":[4],"data_offsets":[0,16]}}' 16
run 1 'Q99'
fresh
cp $vae $dit # a good file that is another one
run 1 'missing|x_embedder|transformer'

# ---- NaN: named when it arises, and by info --verify before
fresh
size=$(wc -c <$dit)
printf '\377\377\377\377' | dd of=$dit bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
run 1 'nan|infinit'
fresh
size=$(wc -c <$vae)
printf '\377\377\377\377' | dd of=$vae bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
flux1 info $model --verify --json
expect_status 1 "info --verify finds the NaN"
grep -Eiq 'nan|infinit' ../err || fail "info --verify names NaN"
grep -q 'vae' ../err || fail "info --verify names the file"
flux1 info nowhere
expect_status 1 "info of nothing"

# ---- requests
refused 2 'width 1000000' generate -m "$tiny" -p x -W 1000000 -H 64 -o x.png --quiet
refused 1 'GiB|MiB|TiB|GB|TB|bytes' generate -m "$tiny" -p x -W 65536 -H 65536 -o x.png --quiet
refused 1 'max_memory.*--max-memory' generate -m "$tiny" -p x -W 1024 -H 1024 -o x.png --max-memory 1M --quiet
refused 2 'UTF-8' generate -m "$tiny" -p "$(printf 'a\377')" -o x.png --quiet
refused 1 'max.sequence.length 60000' generate -m "$tiny" -p x -o x.png --max-sequence-length 60000 --quiet
refused 2 'width|size|16' generate -m "$tiny" -p x -W 8 -H 64 -o x.png --quiet
printf 'a\0b' >../zero
refused 1 'zero bytes' generate -m "$tiny" --prompt-file ../zero -o x.png
refused 1 'absent' generate -m "$tiny" --prompt-file ../absent -o x.png

# ---- places to write, refused before any work
at_once() { # as refused: nothing was found out that would be printed
    refused "$@"
    [ ! -s ../out ] || fail "the work was done before it was refused: $*"
}
mkdir ../folder
refused 1 'absent.*does not exist' generate -m "$tiny" -p x -o ../absent/x.png
refused 1 'folder' generate -m "$tiny" -p x -o ../folder
refused 1 '^flux1: /proc/x.png: no file can be made in the folder /proc$' generate -m "$tiny" -p x -o /proc/x.png
refused 1 'absent.*does not exist' generate -m "$tiny" -p x -o x.png --dump ../absent/x.safetensors
refused 1 'absent.*does not exist' generate -m "$tiny" -p x -o x.png --preview ../absent/x.png
at_once 1 'absent.*does not exist' generate -m "$tiny" -p x -o x.png --profile ../absent/x.json
at_once 1 'absent.*does not exist' bench -m "$tiny" --stage clip --profile ../absent/x.json
at_once 1 'absent.*does not exist' bench -m "$tiny" --repeats 0 --events ../absent/x.json
at_once 1 'absent.*does not exist' plan --machine wh-n300 --timeline ../absent/x.svg
at_once 1 'absent.*does not exist' plan --machine wh-n300 --record ../absent/x.txt

# ---- two outputs that are one file, of which the last would replace the first
twice() { # the two options and the file in the sentence, then the arguments
    pattern_of_both="^flux1: $1 and $2 would both write $3; "
    shift 3
    at_once 2 "$pattern_of_both" "$@"
}
ln -s run ../same
for option in --dump --profile --preview; do
    twice --output "$option" x.png generate -m "$tiny" -p x -o x.png $option x.png
    twice --output "$option" '\./x.png' generate -m "$tiny" -p x -o x.png $option ./x.png
    [ $option = --preview ] || # which are of several pictures, too
        twice --output "$option" "$work/same/o2.png" generate -m "$tiny" -p x -n 3 -o o%d.png $option "$work/same/o2.png"
    at_once 2 "^flux1: $option: the picture would be written to x_seed7.png too" generate -m "$tiny" -p x -S 7 $option x_seed7.png
done
twice --output --preview o-1.png generate -m "$tiny" -p x -n 2 -o o.png --preview o.png
twice --output --preview o1.png generate -m "$tiny" --prompts /dev/null -o o%d.png --preview o%d.png
twice --preview --dump p.png generate -m "$tiny" -p x -o x.png --preview p.png --dump p.png
twice --dump --profile d generate -m "$tiny" -p x -o x.png --dump d --profile d
twice --output --dump not/there/x.png generate -m "$tiny" -p x --output-dir not/./there -o x.png --dump not/there/x.png
twice --profile --events e.json bench -m "$tiny" --repeats 0 --profile e.json --events e.json
twice --timeline --record ./../run/r.svg plan --machine wh-n300 --timeline r.svg --record ./../run/r.svg
flux1 generate -m "$tiny" -p x -S 1 -o x.png --preview x-1.png --dump x.safetensors -q
expect_status 0 "three files of three names"

# ---- an output that would replace an input
replaces() { # the option that writes, with a blank, or nothing; the file; whose it is; then the arguments
    pattern_of_input="^flux1: $1$2 would replace $3; give another name$"
    shift 3
    cp "$input" ../kept
    at_once 2 "$pattern_of_input" "$@"
    cmp -s "$input" ../kept || fail "$input was replaced: $*"
}
printf 'a fox\n' | tee p.txt >p1.txt
printf '{}' >m.json
input=x.safetensors
for option in --dump --profile --preview; do
    replaces "$option " ./x.safetensors 'the file of --latents' generate -m "$tiny" -p x -o y.png --latents x.safetensors $option ./x.safetensors
    replaces "$option " x.safetensors 'the file of --lora' generate -m "$tiny" -p x -o y.png --lora "$work/same/x.safetensors:0.5" $option x.safetensors
    replaces "$option " x.safetensors 'the file of --vae' generate -m "$tiny" -p x -o y.png --vae x.safetensors $option x.safetensors
done
replaces '--output ' x.safetensors 'the file of --latents' generate -m "$tiny" -p x --latents x.safetensors -o x.safetensors
replaces '--output ' x.safetensors 'the file that is read' decode -m "$tiny" x.safetensors -o x.safetensors
replaces '--profile ' x.safetensors 'the file of --transformer' bench --transformer x.safetensors --profile x.safetensors
replaces '' x.safetensors 'the file of --rules' convert "$tiny/vae" x.safetensors --rules x.safetensors
replaces '' x.safetensors 'the file that is read' convert ../run/x.safetensors x.safetensors
input=p.txt
replaces '--output ' p.txt 'the file of --prompt-file' generate -m "$tiny" --prompt-file p.txt -o p.txt
replaces '--output ' p1.txt 'the file of --prompts' generate -m "$tiny" --prompts ../run/p1.txt -o p%d.txt
replaces '--access-log ' p.txt 'the file of --api-key-file' serve -m "$tiny" --port 0 --api-key-file p.txt --access-log p.txt
input=m.json
replaces '--record ' m.json 'the file of --machine' plan --machine m.json --record m.json
flux1 generate -m "$tiny" --from x.png -o x.png -q
expect_status 0 "a picture that repeats itself"
flux1 trial <<'END'
{"recording": "r", "values": "x.safetensors", "out": "./x.safetensors"}
END
grep -q 'out ./x.safetensors would replace a file that is read' ../out || fail "trial writes over its values: $(cat ../out)"
rm p.txt p1.txt m.json
rm -f -- x.png x-1.png x.safetensors ../same
refused 1 '/dev/full' generate -m "$tiny" -p x -o /dev/full
if [ "$(id -u)" -ne 0 ]; then
    chmod 555 ../folder
    refused 1 'permission' generate -m "$tiny" -p x -o ../folder/x.png
    chmod 755 ../folder
fi

# ---- a full disk, by a limit on the size of files (blocks of 512 bytes)
refused_when_full() {
    ls -A >../before
    (
        ulimit -f 4
        timeout -k 5 120 "$FLUX1" generate -m "$tiny" -p x -S 1 -o x.png --quiet "$@" >../out 2>../err
    )
    status=$?
    ls -A >../after
    expect_status 1 "a full disk $*"
    [ "$(wc -l <../err)" -eq 1 ] || fail "a full disk $*: one sentence"
    grep -Eq 'cannot write' ../err || fail "a full disk $*: is told"
    cmp -s ../before ../after || fail "a full disk $*: left $(comm -13 ../before ../after)"
}
refused_when_full
refused_when_full --dump x.safetensors
# devices
refused 1 'dtype fp8 needs a GPU.*bf16' generate -m "$tiny" -p x --dtype fp8
flux1 info --devices --json
expect_status 0 "info --devices"
"$VALUE" devices.0.cores <../out >/dev/null || fail "info --devices describes the CPU"
"$VALUE" devices.0.memory <../out >/dev/null && fail "info --devices: a CPU has no memory of its own"
if "$VALUE" 'no cuda' <../out >/dev/null 2>&1; then
    refused 1 'device cuda.*device cpu works without it.*--device' generate -m "$tiny" -p x --device cuda
    flux1 generate -m "$tiny" -p x -S 1 -o host.png --encoder-device host
    expect_status 0 "--encoder-device host"
fi
finish
