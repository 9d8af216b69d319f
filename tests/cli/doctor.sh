#!/bin/sh
# flux1 doctor: what is asked for decides about the exit status; what is missing comes with a remedy.
. "$(dirname "$0")/lib.sh"
unset FLUX1_CACHE_DIR FLUX1_TTNN_PYTHON
value() { "$VALUE" "$@" <../out; }

state_is() { # check, state: the first one of that name
    grep -Eq "^$2 +$1 " ../out || fail "$1 is not $2: $(grep " $1 " ../out)"
}

flux1 doctor
expect_status 0 "doctor"
state_is cpu ok
state_is memory ok
state_is model note # there is no mini model here
state_is 'working folder' ok
state_is 'prepared weights' note
grep -q '^nothing is wrong$' ../out || fail "doctor: nothing is wrong"
[ ! -s ../err ] || fail "doctor: something on standard error"

flux1 doctor -m "$tiny" --cache entries --json
expect_status 0 "doctor with a model"
[ "$(value wrong)" = 0 ] || fail "doctor --json: wrong is $(value wrong)"
grep -q 'schnell (schnell) opens; a picture of' ../out || fail "doctor opens the model"
[ ! -e entries ] || fail "doctor made the folder"

# a model that lacks a part, a folder that cannot be made, a model of the environment
cp -r "$tiny" cut && rm cut/vae/*.safetensors
flux1 doctor -m cut
expect_status 1 "doctor with half a model"
state_is model wrong
grep -q 'vae' ../out || fail "doctor names the missing part"
: >file
flux1 doctor --cache file/entries
expect_status 1 "doctor with a file for a folder"
state_is 'prepared weights' wrong
FLUX1_MODEL=nowhere
export FLUX1_MODEL
flux1 doctor
expect_status 1 "doctor with FLUX1_MODEL=nowhere"
state_is model wrong
grep -q '^1 of these is wrong$' ../out || fail "doctor counts one"
unset FLUX1_MODEL

# a working folder that may not be looked at
as='' program=$FLUX1
if [ "$(id -u)" -eq 0 ]; then # root may look at every one
    chmod 755 "$work"
    cp "$FLUX1" ../flux1 # the folder of the other one may be root's
    as='setpriv --reuid=65534 --regid=65534 --clear-groups' program=$work/flux1
    $as "$program" --version >/dev/null 2>&1 || as=no
fi
if [ "$as" != no ]; then
    mkdir shut
    status=0
    (cd shut && chmod 0 . && exec $as timeout 60 "$program" doctor) >../out 2>../err || status=$?
    chmod 755 shut
    expect_status 1 "doctor in a folder that is shut"
    grep -q '^wrong *working folder.*: Permission denied' ../out || fail "doctor tells that the folder is shut"
fi

# cards that are not there are wrong where they are asked for
if [ ! -e /dev/tenstorrent ]; then
    FLUX1_TTNN_PYTHON=/nowhere/python
    export FLUX1_TTNN_PYTHON
    flux1 doctor ttnn
    expect_status 1 "doctor ttnn without a card"
    for check in card Python ttnn; do state_is "$check" wrong; done
    grep -q 'FLUX1_TTNN_PYTHON is /nowhere/python: cannot be started' ../out || fail "doctor ttnn names the Python"
    flux1 info --devices
    grep -q 'no tenstorrent' ../out || fail "info --devices tells that there is no card"
fi
refused 2 'must be cuda .* or ttnn' doctor gpu
refused 2 'unexpected argument "ttnn"' doctor cuda ttnn
finish
