#!/bin/sh
# flux1 pull against a hub of our own (hub_server.py): what is fetched and where it lies, and everything that goes wrong.
# PULL_PYTHON: a Python with huggingface_hub, which then looks at the result and fetches the same; default: python3.
. "$(dirname "$0")/lib.sh"
[ "$HAS_PULL" = ON ] || { echo "skipped: built without libcurl"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
python=${PULL_PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
for name in HF_TOKEN HF_TOKEN_PATH HUGGING_FACE_HUB_TOKEN HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_HUB_DOWNLOAD_TIMEOUT \
    HF_HUB_DISABLE_IMPLICIT_TOKEN http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY no_proxy NO_PROXY REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
    unset "$name"
done
export HF_HOME="$work/hf"
mode=$work/mode log=$work/log
commit=0123456789abcdef0123456789abcdef01234567

python3 - "$work/repos" <<'END'
import os, random, sys
sizes = {"model_index.json": 300, "flux1.json": 52, "README.md": 100, "flux1-schnell.safetensors": 30000, "scheduler/scheduler_config.json": 200,
         "text_encoder/config.json": 250, "text_encoder/model.safetensors": 70000, "text_encoder/model.fp16.safetensors": 60000,
         "text_encoder_2/config.json": 220, "text_encoder_2/model-00001-of-00002.safetensors": 90000,
         "text_encoder_2/model-00002-of-00002.safetensors": 80000, "text_encoder_2/model.safetensors.index.json": 6000,
         "tokenizer/vocab.json": 8000, "tokenizer/merges.txt": 7000, "tokenizer_2/spiece.model": 9000, "transformer/config.json": 230,
         "transformer/diffusion_pytorch_model.safetensors": 30000013, "vae/config.json": 240, "vae/copy.json": 240, "vae/empty.json": 0,
         "vae/diffusion_pytorch_model.safetensors": 200000, "vae/diffusion_pytorch_model.bin": 200000, "vae/deep/config.json": 30}
repos = {"org/flux": sizes, "org/ggufs": {"a b-Q4_0.gguf": 6000, "sub/x-Q8_0.gguf": 6000, "README.md": 10},
         "org/one": {"lora.safetensors": 7000, "config.json": 50, "image.png": 70}, "org/empty": {".keep": 0}}
for repo, files in repos.items():
    for seed, (name, size) in enumerate(files.items()):
        path = os.path.join(sys.argv[1], repo, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").write(random.Random(3 if name == "vae/copy.json" else seed if name != "vae/config.json" else 3).randbytes(size))
END
rm "$work/repos/org/empty/.keep"
start_hub "$here"
original=$work/repos/org/flux
big=transformer/diffusion_pytorch_model.safetensors
tree='model_index.json flux1.json scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.safetensors text_encoder_2/config.json
text_encoder_2/model-00001-of-00002.safetensors text_encoder_2/model-00002-of-00002.safetensors text_encoder_2/model.safetensors.index.json
tokenizer/merges.txt tokenizer/vocab.json tokenizer_2/spiece.model transformer/config.json transformer/diffusion_pytorch_model.safetensors
vae/config.json vae/copy.json vae/diffusion_pytorch_model.safetensors vae/empty.json'

words() { # what the server does from here on
    printf '%s\n' "$*" >"$mode.new"
    mv "$mode.new" "$mode"
    : >"$log"
}
blob() { # a file of the repository: its blob's name
    size=$(wc -c <"$original/$1")
    if [ "$size" -ge 5000 ]; then
        sha256sum "$original/$1" | cut -d' ' -f1
    else
        { printf 'blob %d\0' "$size"; cat "$original/$1"; } | sha1sum | cut -d' ' -f1
    fi
}
whole() { # cache, what: every file of the tree is there, and no other one
    snapshot=$1/models--org--flux/snapshots/$commit
    for file in $tree; do
        cmp -s "$original/$file" "$snapshot/$file" || fail "$2: $file is not what the hub has"
    done
    [ "$(cd "$snapshot" && find . -type l | wc -l)" -eq "$(echo $tree | wc -w)" ] || fail "$2: other files in the snapshot"
    [ "$(cat "$1/models--org--flux/refs/main")" = $commit ] || fail "$2: refs/main does not hold the commit"
    [ -z "$(find "$1" -name '*.incomplete' -o -name '*.tmp')" ] || fail "$2: left unfinished files"
}
pull() { # cache, what, further arguments: succeeds, and everything is there
    cache=$1 what=$2
    shift 2
    flux1 pull org/flux --cache-dir "$cache" "$@"
    expect_status 0 "$what"
    whole "$cache" "$what"
    rm -rf "$cache"
}
fails() { # what, pattern, arguments: one sentence at the end, and no snapshot
    what=$1 pattern=$2
    shift 2
    rm -rf cache
    flux1 pull --cache-dir cache "$@"
    expect_status 1 "$what"
    tail -n 1 ../err | grep -Eq -e "$pattern" || fail "$what: the sentence does not match /$pattern/"
    [ -z "$(find cache -path '*snapshots/*' 2>/dev/null)" ] || fail "$what: left a snapshot"
    [ ! -e cache/models--org--flux/refs/main ] || fail "$what: left a reference"
}
gets() { grep -c "^$1 GET" "$log"; }

# ---- what is fetched, and where it lies ----
words ""
flux1 pull org/flux
expect_status 0 "pull"
cache=$HF_HOME/hub
whole "$cache" "pull"
[ "$(cat ../out)" = "$cache/models--org--flux/snapshots/$commit" ] || fail "standard output is not the snapshot: $(cat ../out)"
[ "$(readlink "$cache/models--org--flux/snapshots/$commit/vae/config.json")" = "../../../blobs/$(blob vae/config.json)" ] ||
    fail "the link is not relative"
[ "$(ls "$cache/models--org--flux/blobs" | wc -l)" -eq $(($(echo $tree | wc -w) - 1)) ] || fail "equal files do not share a blob"
[ "$(grep -c "$big.*bytes=" "$log")" -ge 4 ] || fail "the large file did not come in parts"
same() { find "$cache/models--org--flux/snapshots" "$cache/models--org--flux/refs/main" ! -type d -printf '%p %i\n' | sort; }
same >../first
flux1 pull org/flux@v1 --json
expect_status 0 "pull again"
same | cmp -s - ../first || fail "pull again wrote what was there (which a folder that is only read would not allow)"
[ "$("$VALUE" bytes_received <../out)" = 0 ] && [ "$("$VALUE" blobs_fetched <../out)" = 0 ] || fail "pull again fetched: $(cat ../out)"
[ "$(gets cdn)" -eq "$(grep -c 'cdn GET' "$log")" ] && [ "$(cat "$cache/models--org--flux/refs/v1")" = $commit ] || fail "no refs/v1"
flux1 pull "org/flux@$commit" --quiet
expect_status 0 "pull of a commit"
[ ! -s ../err ] || fail "--quiet is not quiet"
[ ! -e "$cache/models--org--flux/refs/$commit" ] || fail "a reference for a commit"
if "$python" -c 'import huggingface_hub' 2>/dev/null; then
    words ""
    HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_CACHE=$work/theirs "$python" - "$cache" $tree <<'END' 2>../err || fail "huggingface_hub does not see it"
import sys
from huggingface_hub import scan_cache_dir, snapshot_download
info = scan_cache_dir(sys.argv[1])
assert not info.warnings, info.warnings
(repo,) = info.repos
assert repo.repo_id == "org/flux" and repo.nb_files == len(sys.argv[2:]) - 1, repo
(revision,) = repo.revisions
assert revision.refs == {"main", "v1"}, revision
snapshot_download("org/flux", cache_dir=sys.argv[1], local_files_only=True)
for revision in "main", "v1":
    snapshot_download("org/flux", revision=revision, allow_patterns=sys.argv[2:])
END
    (cd "$cache" && find . ! -type d -printf '%p %l %s %m\n' | sort) >"$cache.txt"
    # 2.4 writes two more files, and locks that a group may open
    (cd "$work/theirs" && find . ! -type d ! -name CACHEDIR.TAG ! -path '*/trees/*' -printf '%p %l %s %m\n' | sed 's/lock  0 664$/lock  0 644/' | sort) >"$work/theirs.txt"
    diff "$cache.txt" "$work/theirs.txt" >../out || { cat ../out; fail "huggingface_hub lays it out otherwise"; }
else
    echo "huggingface_hub is not there: not compared with it"
fi

# ---- choice ----
chosen() { # expected names, arguments
    expected=$1
    shift
    rm -rf cache
    flux1 pull --cache-dir cache "$@"
    expect_status 0 "pull $*"
    [ "$(cd cache/models--*/snapshots/$commit && find . -type l | sort | tr '\n' ' ')" = "$expected" ] ||
        fail "pull $*: $(cd cache/models--*/snapshots/$commit && find . -type l | sort | tr '\n' ' ')"
}
chosen './config.json ./lora.safetensors ' org/one
chosen './a b-Q4_0.gguf ' org/ggufs --file '*Q4_0*'
chosen './README.md ./sub/x-Q8_0.gguf ' org/ggufs --file sub/ --file README.md
flux1 pull org/flux --cache-dir cache --file-variant fp16
expect_status 0 "pull of a variant"
[ -e cache/models--org--flux/snapshots/$commit/text_encoder/model.fp16.safetensors ] &&
    [ ! -e cache/models--org--flux/snapshots/$commit/text_encoder/model.safetensors ] &&
    [ -e cache/models--org--flux/snapshots/$commit/$big ] || fail "the variant is not what was fetched"
rm -rf cache
refused 2 'no file of it matches "\*\.ckpt"; it holds .*flux1-schnell' pull org/flux --file vae/ --file '*.ckpt'
refused 2 'variant "bf8"' pull org/flux --file-variant bf8
refused 2 'which of its weights.*a b-Q4_0.gguf, sub/x-Q8_0.gguf' pull org/ggufs
refused 2 'holds no files' pull org/empty
for name in flux org/ org/a/b ../x org/x@ org/x@../y 'org/a b'; do refused 2 'not a repository' pull "$name"; done
refused 2 'needs a repository' pull

# ---- a file system without symbolic links and locks: the files lie in the snapshot, as huggingface_hub leaves them ----
words ""
plainly() { # cache, bytes that come, what
    LD_PRELOAD=$NO_LINKS flux1 pull org/flux --cache-dir "$1" --json
    expect_status 0 "$3"
    for file in $tree; do
        cmp -s "$original/$file" "$1/models--org--flux/snapshots/$commit/$file" || fail "$3: $file is not what the hub has"
    done
    [ "$(cd "$1/models--org--flux" && find . -type f ! -path './trees/*' | wc -l)" -eq $(($(echo $tree | wc -w) + 1)) ] || fail "$3: $(cd "$1/models--org--flux" && find .)"
    [ "$("$VALUE" bytes_received <../out)" -eq "$2" ] || fail "$3: $("$VALUE" bytes_received <../out) bytes came, not $2"
}
total=$(cd "$original" && cat $tree | wc -c)
plainly cache $((total - 240)) "no links"
grep -q 'no symbolic links on this file system' ../err || fail "no links: it is not said"
plainly cache 0 "no links, again"
rm cache/models--org--flux/snapshots/$commit/vae/copy.json
echo damaged >cache/models--org--flux/snapshots/$commit/vae/diffusion_pytorch_model.safetensors
plainly cache $((240 + 200000)) "no links, one lost and one damaged"
if "$python" -c 'import huggingface_hub' 2>/dev/null; then
    LD_PRELOAD=$NO_LINKS HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_CACHE=$work/plain "$python" -c '
import sys, huggingface_hub as h
h.snapshot_download("org/flux", allow_patterns=sys.argv[1:])' $tree 2>../err || fail "huggingface_hub does without links"
    plainly "$work/plain" 0 "no links, after huggingface_hub"
fi
rm -rf cache
words bare # two files share a blob, and nobody says its size: what lies there of one tells nothing of the other
mkdir "$work/repos/org/pair"
cp "$original/tokenizer/vocab.json" "$work/repos/org/pair/a.json"
cp "$original/tokenizer/vocab.json" "$work/repos/org/pair/b.json"
pair=cache/models--org--pair/snapshots/$commit
both() { # bytes that come, what
    LD_PRELOAD=$NO_LINKS flux1 pull org/pair --file '*.json' --cache-dir cache --json
    expect_status 0 "$2"
    for file in a.json b.json; do
        cmp -s "$work/repos/org/pair/$file" $pair/$file || fail "$2: $file is not what the hub has"
    done
    [ "$("$VALUE" bytes_received <../out)" -eq "$1" ] && [ "$("$VALUE" bytes <../out)" -eq 8000 ] || fail "$2: $(cat ../out)"
}
both 8000 "a pair"
both 0 "a pair, again"
rm $pair/b.json
both 8000 "a pair, one lost"
echo cut >$pair/a.json
both 8000 "a pair, one cut"
echo cut >$pair/a.json
rm $pair/b.json
both 8000 "a pair, one cut and one lost"
rm -rf cache

# ---- servers that differ ----
for mode_words in noranges direct "direct noranges" renamed bare "bare noranges" "renamed direct"; do
    words $mode_words
    pull cache "$mode_words"
done
words ""
HF_ENDPOINT=http://hub.test/ http_proxy=http://127.0.0.1:$hub_port no_proxy=127.0.0.1 pull cache "a proxy"

# ---- what passes ----
for mode_words in drop=6 "drop=3 noranges" fail=2 busy=1 long=2 flip=1 expired=2 short=1; do
    words $mode_words
    pull cache "$mode_words"
done
words stall=1
HF_HUB_DOWNLOAD_TIMEOUT=1 pull cache stall
words hostile
pull cache hostile
grep -q '8 names in its listing cannot be files here' ../err || fail "hostile: the names that are left out are not counted"
[ -z "$(find "$work" -name '*evil*')" ] || fail "hostile: a file outside"
words many
pull cache many

# ---- what does not pass ----
words flip
fails "a wrong checksum of the only file" 'twice in a row$' org/one --file lora.safetensors # nothing stays to go on from
fails "a wrong checksum" "$(printf '(safetensors|json|txt|model): .*checksum.*twice')" org/flux
for name in $(ls cache/models--org--flux/blobs); do
    case $name in
    *.incomplete) ;;
    ????????????????????????????????????????) sha=1 ;;
    *) [ "$(sha256sum "cache/models--org--flux/blobs/$name" | cut -d' ' -f1)" = "$name" ] || fail "a blob with a wrong checksum" ;;
    esac
done
words gated
fails "gated, no token" "HTTP 401: Access to model x is restricted.*$HF_ENDPOINT/org/flux.*HF_TOKEN" org/flux
HF_TOKEN=bad fails "gated, another token" "the token from HF_TOKEN does not give access \(HTTP 403.*$HF_ENDPOINT/org/flux" org/flux
HF_TOKEN=good pull cache "gated, with a token"
grep -q 'cdn.*Bearer' "$log" && fail "the token went to another server"
words gated late
HF_TOKEN=good pull cache "gated, and redirected later"
grep -q 'cdn GET.*Bearer' "$log" && fail "the token was redirected to another server"
grep -q 'cdn GET' "$log" || fail "nothing was redirected later"
words gated
mkdir -p "$HF_HOME"
echo good >"$HF_HOME/token"
pull cache "gated, with a token in the hub's file"
HF_TOKEN='a b' refused 2 'the token in HF_TOKEN has blanks' pull org/flux
grep -q 'a b' ../err && fail "the token is shown"
rm "$HF_HOME/token"
words ""
fails "no such repository" 'org/none: no such repository' org/none
fails "no such revision" 'org/flux: it has no branch, tag or commit "v9"' org/flux@v9
words norevision
fails "no such repository, no code" 'org/none: no such repository' org/none@v9
fails "no such revision, no code" 'org/flux: it has no branch, tag or commit "v9"' org/flux@v9
words missing=vae/config.json
fails "no such file" 'vae/config.json is in the listing.*no such file' org/flux
words nolisting
fails "no listing" 'HF_ENDPOINT' org/flux
words nocommit
fails "no commit" 'no X-Repo-Commit header' org/flux
words othercommit
fails "another commit" 'answers with commit ffff' org/flux
words badetag
fails "an etag with a path" 'ETag is "../../x"' org/flux
words loop
fails "redirects in a circle" 'redirected more than' org/flux
words downgrade
fails "another scheme" 'address that cannot be used' org/flux
words short noranges
fails "a short reply" 'the hub says it has [0-9]* bytes, but the server sends' org/flux
words huge
fails "no room" 'are to be fetched, but only .* are free' org/flux
words fail
fails "HTTP 500" 'HTTP 500' org/flux
words ""
echo x >file
flux1 pull org/one --cache-dir file
expect_status 1 "a file in place of the cache's folder"
grep -q 'file.*exists and is not a folder' ../err || fail "a file in place of the cache's folder: no sentence"
(ulimit -f 20000 && exec "$FLUX1" pull org/flux --cache-dir cache) >../out 2>../err
status=$?
expect_status 1 "a disk that is full"
grep -q 'incomplete: cannot write: .*; what has come stays' ../err || fail "a disk that is full: no sentence"
rm -rf cache file
HF_HUB_OFFLINE=1 refused 2 'HF_HUB_OFFLINE is set to 1' pull org/one
TRANSFORMERS_OFFLINE=yes refused 2 'TRANSFORMERS_OFFLINE is set to yes' pull org/one
for value in 0 no False ''; do
    HF_HUB_OFFLINE=$value flux1 pull org/one --cache-dir cache
    expect_status 0 "HF_HUB_OFFLINE=$value"
    rm -rf cache
done
HF_ENDPOINT=ftp://x refused 2 'HF_ENDPOINT is "ftp://x"' pull org/one
words ""

# ---- going on ----
words slow
unfinished=cache/models--org--flux/blobs/$(blob $big).incomplete
wait_for_a_part() { # until some of the large file is there
    for _ in $(seq 1000); do
        [ "$(stat -c %s "$unfinished" 2>/dev/null || echo 0)" -gt 100000 ] && return
        sleep 0.02
    done
    fail "nothing of the large file comes"
}
"$FLUX1" pull org/flux --cache-dir cache >../out 2>../err &
wait_for_a_part
kill -9 $!
wait $! 2>/dev/null
size=$(wc -c <"$unfinished")
[ "$size" -gt 100000 ] && [ "$size" -lt 30000013 ] || fail "kill -9: $size bytes of the large file"
cmp -s -n "$size" "$unfinished" "$original/$big" || fail "kill -9: the unfinished file is not the beginning of the whole one"
[ ! -e "cache/models--org--flux/refs/main" ] && [ -z "$(ls cache/models--org--flux/snapshots)" ] || fail "kill -9: left a snapshot"
words ""
if "$python" -c 'import huggingface_hub' 2>/dev/null; then # it goes on from there too
    cp -r cache theirs
    HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_CACHE=theirs "$python" -c 'import sys, huggingface_hub as h; h.hf_hub_download("org/flux", sys.argv[1])' $big 2>../err ||
        fail "huggingface_hub does not go on"
    cmp -s "theirs/models--org--flux/snapshots/$commit/$big" "$original/$big" || fail "huggingface_hub goes on wrongly"
    # 2.4 goes on from nothing, not even from its own; 1.0 does
    "$python" -c 'import huggingface_hub as h, sys; sys.exit(int(h.__version__.split(".")[0]) < 2)' || grep "$big" "$log" | grep -q "bytes=$size-" ||
        fail "huggingface_hub begins anew"
    words ""
fi
pull cache "after kill -9"
grep "$big" "$log" | grep -q "bytes=$size-" || fail "after kill -9: not continued from $size"
grep "$big" "$log" | grep -q "bytes=0-" && fail "after kill -9: began anew"

words slow
"$FLUX1" pull org/flux --cache-dir cache >../out 2>../err &
wait_for_a_part
kill -TERM $! # a shell starts & with SIGINT ignored
wait $!
status=$?
expect_status 130 "an interrupt"
grep -q 'interrupted; what has come stays: run it again' ../err || fail "an interrupt: no sentence"
[ -e "$unfinished" ] || fail "an interrupt: nothing stays"
words direct etag=ff # another ETag: other names
printf rubbish | dd of="$unfinished" conv=notrunc 2>/dev/null
flux1 pull org/flux --cache-dir cache
expect_status 0 "after another ETag"
[ -e "$unfinished" ] && [ -e "${unfinished%.incomplete}ff" ] || fail "after another ETag: $(ls cache/models--org--flux/blobs)"
rm -rf cache/models--org--flux/refs cache/models--org--flux/snapshots
rm -f cache/models--org--flux/blobs/*ff
words ""
pull cache "after damage" # the beginning is wrong: fetched anew
mkdir -p cache/models--org--flux/blobs
{ cat "$original/$big"; echo more; } >"$unfinished"
echo 'other' >"cache/models--org--flux/blobs/$(blob vae/config.json)"
pull cache "after a file that is too long and a blob that is too short"

words bare # the length is not known: HTTP 416 tells that nothing is missing
mkdir -p cache/models--org--flux/blobs
cp "$original/$big" "$unfinished"
pull cache "after a file that was not renamed"
grep "cdn GET.*$big" "$log" | grep -vq 'bytes=30000013-' && fail "a file that was not renamed is fetched again"
words bare
mkdir -p cache/models--org--flux/blobs
{ cat "$original/$big"; echo more; } >"$unfinished"
pull cache "after a file that is longer than the server's"

words slow
"$FLUX1" pull org/flux --cache-dir cache --json >../first 2>../err &
first=$!
flux1 pull org/flux --cache-dir cache --json
expect_status 0 "the second of two at once"
wait $first || fail "the first of two at once fails"
whole cache "two at once"
total=$(($("$VALUE" bytes_received <../first) + $("$VALUE" bytes_received <../out)))
[ "$total" -eq "$("$VALUE" bytes <../out)" ] || fail "two at once fetched $total bytes"
finish
