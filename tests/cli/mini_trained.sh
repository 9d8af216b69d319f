#!/bin/sh
# The committed mini models at their own settings and at others that they were trained for. MODELS: the source tree's models/; a checkout without them is skipped.
. "$(dirname "$0")/lib.sh"

if [ ! -f "$MODELS/mini-schnell/model_index.json" ] || [ ! -f "$MODELS/mini-dev/model_index.json" ]; then
    echo "skipped: models/mini-schnell and models/mini-dev are not in this checkout"
    exit 77
fi
unset FLUX1_MODELS

# size FILE WIDTHxHEIGHT
size() { case $("$PICTURE" "$1") in "$2 "*) ;; *) fail "$1 is $2: $("$PICTURE" "$1")" ;; esac; }

flux1 generate -p "two yellow ducks on a beach" -S 1 -o ducks.png
expect_status 0 "generate without --model"
grep -q "using the mini model $MODELS/mini-schnell " ../err || fail "a build in any folder finds its source tree's models"
grep -q 'denoise: 4 steps' ../err || fail "mini-schnell's own number of steps is 4"
size ducks.png 128x128
flux1 tokenize -p "two yellow ducks on a beach"
grep -q '^t5 (40)' ../out || fail "its own text length is 40: $(cat ../out)"

flux1 generate -m "$MODELS/mini-dev" -p "a cat" -S 1 -s 4 -g 2 -W 96 -H 160 --max-sequence-length 64 -o low.png
expect_status 0 "mini-dev"
size low.png 96x160
flux1 generate -m "$MODELS/mini-dev" -p "a cat" -S 1 -s 4 -g 7 -W 96 -H 160 --max-sequence-length 64 -o high.png
[ "$("$PICTURE" low.png)" != "$("$PICTURE" high.png)" ] || fail "mini-dev follows --guidance"
"$SHEET" "$MODELS/mini-schnell" sheet.png >../out 2>../err || fail "the contact sheet"
size sheet.png 524x392
for model in mini-schnell mini-dev; do
    flux1 info "$MODELS/$model"
    expect_status 0 "info $model"
done
finish
