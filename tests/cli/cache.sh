#!/bin/sh
# flux1 cache: what --cache stored is listed, checked and removed; --cache changes no picture.
. "$(dirname "$0")/lib.sh"
export XDG_CACHE_HOME="$work/xdg"
unset FLUX1_CACHE_DIR FLUX1_CACHE_SIZE

picture() { # output, further options
    name=$1
    shift
    flux1 generate -m "$tiny" -p 'a red car' -W 32 -H 32 -s 1 -S 3 -q -o "$name" "$@"
    expect_status 0 "generate -o $name $*"
}
value() { "$VALUE" "$@" <../out; }

flux1 info "$tiny" --cache unmade
expect_status 0 "info --cache"
[ ! -e unmade ] || fail "info stores nothing, and made the cache's folder"

picture none.png
picture cold.png --cache entries
picture warm.png --cache entries
cmp -s none.png cold.png && cmp -s none.png warm.png || fail "pictures with and without --cache differ"
count=$(ls entries | wc -l) parts=$count
[ "$count" -ge 4 ] || fail "$count entries, expected one for each part"
[ -z "$(ls entries | grep -v '^[0-9a-f]\{32\}\.prepared$')" ] || fail "other files in the cache: $(ls entries)"

flux1 cache list --cache entries
expect_status 0 "cache list"
for word in dit_weights vae_decoder t5 clip schnell entries; do
    grep -q "$word" ../out || fail "cache list does not mention $word"
done
FLUX1_CACHE_DIR=entries
export FLUX1_CACHE_DIR
flux1 cache size --json
[ "$(value entries)" = "$count" ] || fail "cache size: $(value entries) entries, expected $count"
[ "$(value bytes)" = "$(cat entries/* | wc -c)" ] || fail "cache size: $(value bytes) bytes"
flux1 cache verify
expect_status 0 "cache verify"

# one byte of the largest entry, at its end
largest=$(ls -S entries | head -1)
size=$(wc -c <"entries/$largest")
printf x | dd of="entries/$largest" bs=1 seek=$((size - 1)) conv=notrunc 2>/dev/null
flux1 cache verify
expect_status 1 "cache verify of a damaged entry"
grep -q "$largest.*checksum" ../err || fail "cache verify does not name the damaged file"
flux1 generate -m "$tiny" -p 'a red car' -W 32 -H 32 -s 1 -S 3 -o again.png
grep -q "warning.*$largest" ../err || fail "no warning for a damaged entry"
cmp -s none.png again.png || fail "another picture after a damaged entry"
flux1 cache verify
expect_status 0 "cache verify after it was made again"

# bytes of a model that changed in place, the time of modification put back: drawn as they are, not as they were
cp -R "$tiny" model
chmod -R u+w model
vae=$(ls model/vae/*.safetensors)
changed() { # output, further options
    name=$1
    shift
    flux1 generate -m model -p 'a red car' -W 32 -H 32 -s 1 -S 3 -q -o "$name" "$@"
    expect_status 0 "generate -o $name of a copy"
}
changed old.png
touch -r "$vae" ../time
blocks=$(($(wc -c <"$vae") / 4096))
dd if=/dev/zero of="$vae" bs=4096 seek=$((blocks / 4)) count=$((blocks / 2)) conv=notrunc 2>/dev/null
touch -r ../time "$vae"
changed new.png
FLUX1_CACHE_DIR=
changed plain.png
FLUX1_CACHE_DIR=entries
cmp -s old.png new.png && fail "the test changes no weight that counts"
cmp -s new.png plain.png || fail "--cache draws with a file's bytes of before"
count=$(ls entries | wc -l)

# what has an entry's name and is no file: the run is right and warns, verify fails, clear leaves it
mv entries/"$largest" ../kept
mkdir entries/"$largest"
flux1 generate -m "$tiny" -p 'a red car' -W 32 -H 32 -s 1 -S 3 -o again.png
expect_status 0 "a folder under an entry's name"
grep -q "warning.*$largest: is a folder" ../err || fail "no warning for a folder under an entry's name: $(cat ../err)"
cmp -s none.png again.png || fail "another picture with a folder under an entry's name"
for other in entries/*; do # the folder is not the first that is listed
    [ -d "$other" ] || touch -d 2001-01-01 "$other"
done
flux1 cache list
expect_status 0 "cache list with a folder under an entry's name"
grep -q "$largest: is a folder" ../out || fail "cache list does not name the folder: $(cat ../out)"
flux1 cache verify
expect_status 1 "cache verify with a folder under an entry's name"
grep -q "$largest: is a folder, not an entry of the cache; remove it" ../err || fail "cache verify does not name the folder: $(cat ../err)"
cp -R entries others
flux1 cache clear --cache others --json
expect_status 1 "cache clear with a folder under an entry's name"
grep -q "1 of $count entries are not removed: .*$largest: is a folder" ../err || fail "cache clear does not say what it leaves: $(cat ../err)"
[ "$(ls others)" = "$largest" ] || fail "cache clear left $(ls others | tr '\n' ' ')"
rmdir entries/"$largest"
mv ../kept entries/"$largest"

# what cannot be removed is told, counted and stays
read_only() { # undone by may_write
    if [ "$(id -u)" -eq 0 ]; then
        mount --bind entries entries 2>/dev/null && { mount -o remount,bind,ro entries || { umount entries; false; }; }
    else
        chmod a-w entries
    fi
}
may_write() { if [ "$(id -u)" -eq 0 ]; then umount entries; else chmod u+w entries; fi; }
if read_only; then
    flux1 cache clear --json
    may_write
    expect_status 1 "cache clear of a folder that cannot be written"
    [ "$(value entries)/$(value 'in use')/$(value 'not removed')" = "0/0/$count" ] ||
        fail "cache clear counts removed/in use/not removed: $(value entries)/$(value 'in use')/$(value 'not removed')"
    grep -Eq "^flux1: $count of $count entries are not removed: entries/[0-9a-f]*.prepared: cannot remove: (Read-only|Permission)" ../err ||
        fail "cache clear says why entries are not removed: $(cat ../err)"
    [ "$(ls entries | wc -l)" -eq "$count" ] || fail "cache clear of a folder that cannot be written removed entries"
else
    echo "not tried: a folder that cannot be written (no permission to mount)"
fi

touch entries/notes.txt
flux1 cache clear --json
expect_status 0 "cache clear"
[ "$(value entries)" = "$count" ] || fail "cache clear: $(value entries) entries removed, expected $count"
[ "$(ls entries)" = notes.txt ] || fail "cache clear left $(ls entries | tr '\n' ' ')"

# --cache makes its folder and those above it; where that fails the run does, before any work, also with --quiet
picture deep.png --cache deep/er/entries
[ "$(ls deep/er/entries | wc -l)" -eq "$parts" ] || fail "--cache in folders that are not there: nothing is stored"
touch ../file
refused 1 '^flux1: the cache folder ../file/entries: ../file: exists and is not a folder; move it away or name another folder \(--cache\)$' generate -m "$tiny" -p x -q -o x.png --cache ../file/entries
finish
