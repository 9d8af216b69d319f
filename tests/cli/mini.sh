#!/bin/sh
# Without --model: the mini model, found in FLUX1_MODELS or beside the program. MODELS: the source tree's models/, which may lack it.
. "$(dirname "$0")/lib.sh"

# found nowhere: the sentence names the folders looked at and the ways out
refused 2 'no model: .*FLUX1_MODELS \(it is empty\).*--model DIR.*flux1 pull' generate -p x
refused 2 'no model: .*--model DIR' tokenize -p x
FLUX1_MODELS=/nowhere
refused 2 'no model: .* not in /nowhere; .*--model DIR' generate -p x

# any pipeline under the mini model's name, in a folder that FLUX1_MODELS names
mkdir ../models
cp -R "$tiny" ../models/mini-schnell
FLUX1_MODELS=$(cd .. && pwd)/models
flux1 generate -p "a red fox" -S 7 -o mini.png
expect_status 0 "generate without --model"
exists mini.png
[ "$(grep -c "using the mini model $FLUX1_MODELS/mini-schnell .*flux1 pull" ../err)" -eq 1 ] || fail "one line says which model it is and how to get a real one"
flux1 generate -p "a red fox" -S 7 -o mini.png --quiet
[ ! -s ../err ] || fail "--quiet is quiet"
flux1 tokenize -p "a red fox"
cp ../out ../unnamed
flux1 tokenize -m "$tiny" -p "a red fox"
[ ! -s ../err ] || fail "a named model needs no note"
cmp -s ../out ../unnamed || fail "tokenize without --model gives the mini model's ids"
flux1 generate -m "$tiny" -p "a red fox" -S 7 -o named.png
[ "$("$PICTURE" mini.png)" = "$("$PICTURE" named.png)" ] || fail "the mini model gives the picture that naming it gives"

# beside the program, as installed and as built; through a link to the program too
unset FLUX1_MODELS
mkdir -p ../usr/bin ../links
usr=$(cd ../usr && pwd)
cp "$FLUX1" ../usr/bin/flux1
ln -s "$usr/bin/flux1" ../links/flux1
for place in share/flux1/models models; do
    mkdir -p "$usr/$place"
    cp -R "$tiny" "$usr/$place/mini-schnell"
    ../links/flux1 generate -p "a red fox" -S 7 -o placed.png >../out 2>../err || fail "found in $place"
    grep -q "using the mini model $usr/$place/mini-schnell " ../err || fail "the one in $place is used"
    [ "$("$PICTURE" placed.png)" = "$("$PICTURE" named.png)" ] || fail "the picture of $place"
    rm -r "${usr:?}/$place"
done
if [ ! -f "$MODELS/mini-schnell/model_index.json" ]; then
    ../links/flux1 generate -p "a red fox" -q >../out 2>../err
    grep -q "not in $usr/models, $usr/share/flux1/models, $MODELS;" ../err || fail "the sentence names the three places"
fi

# twelve pictures on a sheet
"$SHEET" "$tiny" sheet.png >../out 2>../err || fail "the contact sheet"
[ "$(wc -l <../out)" -eq 12 ] || fail "the contact sheet lists its prompts"
case $("$PICTURE" sheet.png) in 268x200\ *) ;; *) fail "4 x 3 pictures of 64 with gaps of 4: $("$PICTURE" sheet.png)" ;; esac

finish
