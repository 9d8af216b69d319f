#!/bin/sh
# bench/peers/drive.py beside a peer that computes nothing: a row for each item, what fails is told and the rest goes on. Skipped without Python.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || exit 77
peers=$(cd "$(dirname "$0")/../../bench/peers" && pwd)
cat >peer.py <<END
import sys
sys.path.insert(0, "$peers")
from serve import serve
def prepare(stage, size, text):
    if stage == "clip" and text == 77:
        raise RuntimeError("no clip here")
    return lambda: sum(range(100000))
serve(prepare, peer="a stand-in", versions="none")
END
drive() { python3 "$peers/drive.py" --flux1 "$FLUX1" --model "$tiny" --flux1-options "--tokenizers $tiny" --repeats 2 --threads 1 --out runs.jsonl --logs logs "$@" >../out 2>../err; }

drive --clock cpu --kernels --plan dit:64:16,clip:77,clip:17,t5:16,vae:64 "python3 $PWD/peer.py" || fail "drive.py: $(cat ../err)"
for row in dit:64:16 clip:17 t5:16 vae:64; do
    grep -Eq "^a stand-in +$row +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+\.\. *[0-9.]+ +[0-9]+% " ../out || fail "a row for $row: $(cat ../out)"
done
grep -q '^a stand-in *clip:77 *RuntimeError: no clip here' ../out || fail "the stage that failed: $(cat ../out)"
grep -Eq '^    (conv|group)[a-z_]* .*: [0-9]+%' ../out || fail "kernels below a row: $(cat ../out)"
[ "$(wc -l <runs.jsonl)" = 10 ] || fail "two runs of four items, the peer and the failure: $(cat runs.jsonl)"
drive --plan clip:17 "python3 -c 1" || fail "a peer that ends: $(cat ../err)"
grep -q 'the peer ended (0)' ../out || fail "a peer that ends is told: $(cat ../out)"
drive --plan dit:64 "python3 $PWD/peer.py" && fail "a plan without a length"
grep -q '"dit:64" should be dit:SIZE:TEXT' ../err || fail "the plan: $(cat ../err)"
finish
