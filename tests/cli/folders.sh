#!/bin/sh
# Folders as people have them: variants, what was not fetched, no permission, more than is needed, a wrong FLUX1_MODEL.
. "$(dirname "$0")/lib.sh"
model=../model
weights=diffusion_pytorch_model.safetensors

fresh() { # a copy of a pipeline
    chmod -R u+w $model 2>/dev/null
    rm -rf $model
    cp -rL "$PIPELINES/schnell" $model
    chmod -R u+w $model
}
draw() { # options
    flux1 generate -m $model -p x -S 1 -W 32 -H 32 -s 1 -o x.png "$@"
}
drawn() { # what, a pattern that standard error matches, options
    what=$1 pattern=$2
    shift 2
    rm -f x.png
    draw "$@"
    expect_status 0 "$what"
    exists x.png
    cmp -s x.png ../plain.png || fail "$what: another picture"
    grep -Eq -e "$pattern" ../err || fail "$what: standard error does not match /$pattern/"
    rm -f x.png
}
run() { # status, pattern, options
    wanted=$1 pattern=$2
    shift 2
    refused "$wanted" "$pattern" generate -m $model -p x -S 1 -o x.png --quiet "$@"
}

fresh
draw
mv x.png ../plain.png

# ---- variants
mv $model/transformer/$weights $model/transformer/diffusion_pytorch_model.fp16.safetensors
drawn 'the only variant' 'diffusion_pytorch_model.fp16.safetensors is used, there are no plain weights'
drawn 'a variant' '' --file-variant fp16
run 1 'none of its folders has .* "bf16"' --file-variant bf16
run 2 'file_variant "../x".*--file-variant' --file-variant ../x
: >$model/transformer/diffusion_pytorch_model.bf16.safetensors
run 1 'several variants \(bf16, fp16\).*--file-variant'
drawn 'one of two variants' '' --file-variant fp16
flux1 convert $model/transformer x.gguf --file-variant fp16
expect_status 0 'convert of a variant'
rm -f x.gguf
for command in info plan; do
    flux1 $command -m $model --file-variant fp16
    expect_status 0 "$command of a variant"
done
flux1 tokenize -m $model -p x --file-variant fp16
expect_status 0 'tokenize of a variant'
refused 1 'several variants' convert $model/transformer x.gguf

# ---- what was not fetched
for file in model_index.json scheduler/scheduler_config.json transformer/config.json transformer/$weights \
    text_encoder/model.safetensors tokenizer/vocab.json tokenizer/merges.txt tokenizer_2/tokenizer.json; do
    fresh
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n' >$model/$file
    run 1 "$file: a Git LFS pointer"
    printf '\n<!DOCTYPE html><html>' >$model/$file
    run 1 "$file: a web page"
done
fresh
printf 'Entry not found' >../lora.safetensors
run 1 "lora.safetensors: a server's answer" --lora ../lora.safetensors
rm $model/transformer/$weights
: >$model/transformer/diffusion_pytorch_model.bin
run 1 'a pickle \(diffusion_pytorch_model.bin\)'
sed -i 's/^{/{ "quantization_config": {"quant_method": "torchao"},/' $model/transformer/config.json
run 1 'transformer/config.json: .* quantised by torchao'

# ---- links
fresh
mv $model/vae $model/real
ln -s real $model/vae
drawn 'a linked part' ''
rm $model/vae
ln -s gone $model/vae
run 1 'vae: a link to gone, which is not there'
rm $model/vae
ln -s vae $model/vae
run 1 'vae.*symbolic links'

# ---- no permission
fresh
as='' program=$FLUX1
if [ "$(id -u)" -eq 0 ]; then # root may read everything
    chmod 755 "$work"
    chmod 777 . ..
    program=../flux1
    cp "$FLUX1" $program # the folder of the other one may be root's
    as='setpriv --reuid=65534 --regid=65534 --clear-groups'
    $as $program --version >/dev/null 2>&1 || as=no
fi
if [ "$as" != no ]; then
    for part in vae text_encoder transformer/config.json tokenizer tokenizer_2/tokenizer.json scheduler .; do
        chmod 0 "$model/$part"
        status=0
        $as $program generate -m $model -p x -o x.png --quiet >../out 2>../err || status=$?
        chmod 755 "$model/$part"
        expect_status 1 "no permission for $part"
        grep -q 'Permission denied' ../err || fail "no permission for $part: told as something else"
    done
    mkdir -p "$HF_HUB_CACHE/models--a--b/snapshots"
    chmod 0 "$HF_HUB_CACHE/models--a--b"
    $as $program generate -m a/b -p x -o x.png --quiet >../out 2>../err
    grep -q 'models--a--b.*Permission denied' ../err || fail 'no permission in the cache: told as something else'
    chmod 755 "$HF_HUB_CACHE/models--a--b"
fi

# ---- more than is needed
fresh
flux1 info $model --verify
expect_status 0 'verify'
grep -q 'unknown' ../out && fail 'verify: a whole model has unknown tensors'
mv $model/text_encoder/model.safetensors ../clip.safetensors
safetensors_with_nan() { # one tensor "strange" of two values, the second of them NaN
    header='{"strange.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}      '
    printf "$(printf '\\%03o' ${#header})\\0\\0\\0\\0\\0\\0\\0"
    printf %s "$header"
    printf '\0\0\0\0\0\0\300\177'
}
safetensors_with_nan >$model/text_encoder/strange.safetensors
mv ../clip.safetensors $model/text_encoder/clip.safetensors
{ # an index that lists the encoder's tensors and the strange one
    printf '{"weight_map":{"strange.weight":"strange.safetensors"'
    tail -c +9 $model/text_encoder/clip.safetensors | head -c "$(od -An -tu4 -N4 $model/text_encoder/clip.safetensors | tr -d ' ')" |
        grep -ao '"text_model[^"]*"' | while read -r name; do printf ',%s:"clip.safetensors"' "$name"; done
    printf '}}'
} >$model/text_encoder/model.safetensors.index.json
drawn 'a strange tensor' 'ignored: .*1 tensor that such a model does not have: "strange.weight"'
flux1 info $model --verify --json
expect_status 1 'verify of a NaN'
grep -q '"unknown_tensors"' ../out && grep -q '"strange.weight"' ../out || fail 'verify: the unknown tensor is not listed'
grep -q 'NaN or infinity in tensor "strange.weight"' ../err || fail 'verify: the NaN is not named'

# ---- a wrong FLUX1_MODEL
FLUX1_MODEL=/nowhere/x
export FLUX1_MODEL
refused 1 '/nowhere/x.*FLUX1_MODEL' generate -p x -o x.png
refused 1 '/nowhere/x.*FLUX1_MODEL' tokenize -p x
refused 1 '/nowhere/x: no such' generate -m /nowhere/x -p x -o x.png
grep -q FLUX1_MODEL ../err && fail 'FLUX1_MODEL is blamed for --model'
refused 1 '/nowhere/x.*FLUX1_MODEL' info
# what an option names is its own, wherever it lies
FLUX1_MODEL=$PWD/model
cp -r "$tiny" model
for named in "-o $PWD/model/none/x.png" "--lora $PWD/model/none.safetensors:0.8" "--vae $PWD/model/vae2" "--from $PWD/model/x.png" "-n 2 -o $PWD/model/none/x%02d.png"; do
    # shellcheck disable=SC2086
    refused 1 "^flux1: $PWD/model/" generate -p x -s 1 -W 32 -H 32 $named
    grep -q FLUX1_MODEL ../err && fail "FLUX1_MODEL is blamed for $named: $(cat ../err)"
done
refused 1 "^flux1: $PWD/model/none.safetensors: " info --lora "$PWD/model/none.safetensors"
grep -q FLUX1_MODEL ../err && fail "FLUX1_MODEL is blamed for info's adapter: $(cat ../err)"
rm -r model/vae/*
refused 1 "$PWD/model.*FLUX1_MODEL" generate -p x -s 1 -W 32 -H 32 -o "$PWD/model/x.png"

finish
