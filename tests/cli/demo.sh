#!/bin/sh
# scripts/demo in a tree of its own, with the programs already built: which model it takes, what it leaves and what it says. DEMO: the script.
. "$(dirname "$0")/lib.sh"

mkdir -p scripts build tests/data/pipelines
cp "$DEMO" scripts/demo
ln -s "$FLUX1" build/flux1
ln -s "$SHEET" build/contact_sheet
cp -R "$tiny" tests/data/pipelines/schnell
demo() { # arguments of the script
    rm -f demo.png
    scripts/demo "$@" >../out 2>../err
    status=$?
}

demo "a red fox"
expect_status 0 "scripts/demo with a prompt"
grep -q 'models/mini-schnell is not in this checkout.*noise' ../out || fail "without the mini model it says that the pictures are noise: $(cat ../out)"
[ "$(tail -n 1 ../out)" = "$(pwd)/demo.png" ] || fail "the last line is the picture's path: $(tail -n 1 ../out)"
case $("$PICTURE" demo.png) in 64x64\ *) ;; *) fail "one picture: $("$PICTURE" demo.png)" ;; esac

mkdir models
mv tests/data/pipelines/schnell models/mini-schnell
demo
expect_status 0 "scripts/demo without a prompt"
grep -q 'noise' ../out && fail "with the mini model there is nothing to excuse"
for line in ' 0  a red fox beside a blue house at night' '11  a sailboat at sunset'; do
    grep -qxF -e "$line" ../out || fail "the sheet's prompts are listed with their seeds: $line"
done
case $("$PICTURE" demo.png) in 268x200\ *) ;; *) fail "a sheet of 4 x 3: $("$PICTURE" demo.png)" ;; esac

mv models/mini-schnell elsewhere
export FLUX1_MODEL=elsewhere
demo "a red fox"
expect_status 0 "scripts/demo with FLUX1_MODEL"
exists demo.png
FLUX1_MODEL=nowhere
demo "a red fox"
expect_status 1 "scripts/demo with a folder that is not there"
absent demo.png
finish
