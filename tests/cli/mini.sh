#!/bin/sh
# Without --model: the mini model, found in FLUX1_MODELS or beside the program. MODELS: the source tree's models/, which may lack it.
. "$(dirname "$0")/lib.sh"

refused 2 'no model.*--model' generate -p x
FLUX1_MODELS=/nowhere
refused 2 'no model.*--model' generate -p x

# any pipeline under the mini model's name, in a folder that FLUX1_MODELS names
mkdir ../models
cp -R "$tiny" ../models/mini-schnell
FLUX1_MODELS=$(cd .. && pwd)/models
flux1 generate -p "a red fox" -S 7 -o mini.png
expect_status 0 "generate without --model"
exists mini.png
grep -q 'mini model' ../err || fail "it is said that the mini model is used"
flux1 generate -p "a red fox" -S 7 -o mini.png --quiet
[ ! -s ../err ] || fail "--quiet is quiet"
flux1 generate -m "$tiny" -p "a red fox" -S 7 -o named.png
[ "$("$PICTURE" mini.png)" = "$("$PICTURE" named.png)" ] || fail "the mini model gives the picture that naming it gives"

# beside the program, as installed and as built
unset FLUX1_MODELS
for place in ../usr/share/flux1/models ../usr/models; do
    mkdir -p ../usr/bin $place
    cp "$FLUX1" ../usr/bin/flux1
    cp -R "$tiny" $place/mini-schnell
    ../usr/bin/flux1 generate -p "a red fox" -S 7 -o placed.png --quiet >../out 2>../err || fail "found in $place"
    [ "$("$PICTURE" placed.png)" = "$("$PICTURE" named.png)" ] || fail "the picture of $place"
    rm -r ../usr
done

# twelve pictures on a sheet
"$SHEET" "$tiny" sheet.png >../out 2>../err || fail "the contact sheet"
[ "$(wc -l <../out)" -eq 12 ] || fail "the contact sheet lists its prompts"
case $("$PICTURE" sheet.png) in 268x200\ *) ;; *) fail "4 x 3 pictures of 64 with gaps of 4: $("$PICTURE" sheet.png)" ;; esac

if [ ! -f "$MODELS/mini-schnell/model_index.json" ]; then
    echo "skipped: models/mini-schnell is not in this checkout"
    finish
fi
FLUX1_MODELS=$MODELS
flux1 generate -p "two yellow ducks on a beach" -S 1 -o ducks.png
expect_status 0 "the real mini model"
case $("$PICTURE" ducks.png) in 128x128\ *) ;; *) fail "its size is 128x128: $("$PICTURE" ducks.png)" ;; esac
flux1 generate -m "$MODELS/mini-dev" -p "a cat" -S 1 --steps 4 --guidance 2 -W 96 -H 160 -o dev.png
expect_status 0 "mini-dev"
finish
