#!/bin/sh
# flux1 plan --record and flux1 run-plan: the picture of generate --device ref byte by byte; what is refused.
. "${0%/*}/lib.sh"

record() { # file, mesh, further arguments
    recorded=$1 mesh=$2
    shift 2
    flux1 plan --model "$tiny" --machine wh-t3k --mesh "$mesh" --width 64 --height 48 --steps 2 --record "$recorded" --quiet "$@"
    expect_status 0 "plan --record $recorded"
}

for mesh in 1x1 2x2sp0tp1 2x4sp1tp0; do
    record a.rec $mesh
    flux1 run-plan a.rec --prompt "a red car" --seed 7 --output played.png
    expect_status 0 "run-plan on $mesh"
    [ "$(cat ../out)" = played.png ] || fail "run-plan prints the picture's name: $(cat ../out)"
    flux1 generate --model "$tiny" --prompt "a red car" --seed 7 --output direct.png --width 64 --height 48 --steps 2 --device ref --mesh $mesh
    expect_status 0 "generate --device ref --mesh $mesh"
    cmp played.png direct.png || fail "$mesh: run-plan's picture differs from generate's"
    rm played.png direct.png
done

# the file is text that says what it is of; the same again, and after a way through grep
record b.rec 2x2sp0tp1
[ "$(head -n 1 b.rec)" = "flux1-recording 1" ] || fail "a recording begins with its version"
grep -q "^path $tiny\$" b.rec || fail "a recording names its model"
grep -q '^mesh shape=2x2 sp=2@0 tp=2@1$' b.rec || fail "a recording names its mesh"
[ "$(tail -n 1 b.rec)" = end ] || fail "a recording ends with end"
record c.rec 2x2sp0tp1
cmp b.rec c.rec || fail "a recording is the same every time"
sed 's/^stage/# a comment\n\nstage/' b.rec >commented.rec
flux1 run-plan commented.rec --prompt x --seed 1 --output c.png --quiet
expect_status 0 "run-plan of a file with comments"

# --model counts before the recording's; sizes are compared
grep -v '^path ' b.rec >nobody.rec
flux1 run-plan nobody.rec --model "$tiny" --prompt x --seed 1 --output d.png --quiet
expect_status 0 "run-plan --model"
cmp c.png d.png || fail "the same model by another name gives another picture"
rm -f c.png d.png
refused 2 'nobody.rec does not say which model.*--model' run-plan nobody.rec --prompt x
refused 1 'b.rec: the recording is of schnell, the model is dev' run-plan b.rec --model "$PIPELINES/dev" --prompt x --quiet
sed 's/tensor_rows=500/tensor_rows=501/' b.rec >other.rec
refused 1 'other.rec: line [0-9]*: .*tensor ".*" is \[500, 16\], the recording is of a model where it is \[501, 16\]' run-plan other.rec --prompt x --quiet

# true sizes need no files
flux1 plan --variant dev --machine wh-galaxy --mesh 4x8sp0tp1 --record true.rec --json
expect_status 0 "plan --variant dev --record"
[ "$(grep -c '^stage ' true.rec)" = 6 ] || fail "a recording has six stages"
refused 1 'true.rec: line [0-9]*: .*tensor ".*" is \[.*the recording is of a model where it is \[49408, 768\]' run-plan true.rec --model "$PIPELINES/dev" --prompt x --quiet

# docs/recording.md has every call, key, role and input that a recording of each kind of model and mesh has
flux1 plan --model "$PIPELINES/mixed" --machine wh-t3k --mesh 2x4sp0tp1 --record mixed.rec --quiet
cat true.rec b.rec mixed.rec | sed '/^flux1-recording/,/^sigmas/d; /^stage /d; /^end$/d; s/^@[0-9,]* //' >all.rec
for word in $(cut -d ' ' -f 1 all.rec | sort -u) $(sed -n 's/^input name=\([^ ]*\).*/\1/p' all.rec | sort -u) $(tr ' ' '\n' <all.rec | sed -n 's/^role=//p; s/^given=//p' | sort -u); do
    grep -q "\`$word\`" "$DOCS/recording.md" || fail "docs/recording.md does not have $word"
done
for key in $(tr ' ' '\n' <all.rec | sed -n 's/^\([a-z_0-9]*\)=.*/\1/p' | sort -u); do
    grep -Eq "\`([a-z_0-9? ]* )?$key[?]?( [a-z_0-9? ]*)?\`" "$DOCS/recording.md" || fail "docs/recording.md does not have $key="
done

refused 2 'run-plan needs a FILE' run-plan --prompt x
refused 2 'run-plan needs a prompt: --prompt TEXT or --prompt-file FILE' run-plan b.rec
refused 2 'the prompt is empty' run-plan b.rec --prompt ''
refused 2 '--device' run-plan b.rec --prompt x --device cpu
refused 1 'nowhere.rec: .*No such file' run-plan nowhere.rec --prompt x
refused 1 'nowhere/x.png' run-plan b.rec --prompt x --output nowhere/x.png
refused 1 'nowhere/x.rec' plan --model "$tiny" --machine wh-t3k --mesh 1x1 --record nowhere/x.rec
refused 2 '--record -.*file' plan --model "$tiny" --machine wh-t3k --mesh 1x1 --record -
refused 2 '--record cannot be combined with --describe' plan --machine wh-t3k --describe --record x.rec
refused 2 '--timeline cannot be combined with --describe' plan --machine wh-t3k --describe --timeline x.svg
# a file that cannot be written is known before this CPU is measured
refused 1 'nowhere/x.rec' plan --machine nowhere.json --record nowhere/x.rec
odd=$(printf 'mod\377')
ln -s "$tiny" "$odd"
refused 2 "the model's path is not UTF-8" plan --model "$odd" --machine wh-t3k --mesh 1x1 --record x.rec
[ ! -e x.rec ] || fail "what is refused writes nothing"
rm "$odd"
refused 2 'generate has no option --record' generate --model "$tiny" --prompt x --record x.rec
refused 1 'schnell: ' run-plan "$tiny" --prompt x
head -c 20000 b.rec >cut.rec
refused 1 'cut.rec: .*cut off|cut.rec: line' run-plan cut.rec --prompt x
head -c 64 /dev/zero >zeros.rec
refused 1 'zeros.rec: it is not a recording' run-plan zeros.rec --prompt x
sed 's/^linear /lineer /' b.rec >bad.rec
refused 1 'bad.rec: line [0-9]*: unknown call "lineer"' run-plan bad.rec --prompt x
for stage in clip t5 dit.latent vae; do
    sed "/^stage $stage\$/,/^stage\|^end\$/{/output in=/d}" b.rec >bad.rec
    refused 1 "bad.rec: stage $stage gives no output" run-plan bad.rec --prompt x --output x.png --quiet
done
[ ! -e x.png ] || fail "a stage without a result makes no picture"
sed '0,/^block block=b1 /s//block block=b40000 /' b.rec >bad.rec
refused 1 'bad.rec: line [0-9]*: block: block=b40000 should be a block below b32768' run-plan bad.rec --prompt x
sed '/^begin /d' b.rec >bad.rec
refused 1 'bad.rec: line [0-9]*: .*outside its bracket' run-plan bad.rec --prompt x --quiet

# flux1 trial: each line has an answer, and the next is read
printf '%s\n' nonsense '{"recording": "b.rec"}' '{"recording": "nowhere.rec", "values": "v", "out": "o"}' '{"recording": "b.rec", "values": "v", "out": "o", "times": -1}' \
    '{"recording": "b.rec", "values": "v", "out": "o", "id": 7}' >lines
flux1 trial <lines
expect_status 1 "trial of what cannot be tried"
[ "$(wc -l <../out)" -eq 5 ] || fail "trial answers $(wc -l <../out) of 5 lines"
for said in 'line": 1, "status": "FLUX1_ERR_FORMAT"' '2, "status": "FLUX1_ERR_ARGUMENT", "message": "expected {' '3, .*nowhere.rec: ' '4, .*times should be a whole number from 0 to 1000' \
    '"id": 7, "line": 5, "status": "FLUX1_ERR_FORMAT", .*b.rec: it should have calls of one part, it has of 4'; do
    grep -q -e "$said" ../out || fail "trial does not say /$said/: $(cat ../out)"
done
refused 1 'machines are wh-n300' trial --device ttnn:moon
refused 2 'prompt' trial --prompt x
finish
