#!/bin/sh
# bench/peers: drive.py beside a peer that computes nothing: a row for each item, what fails is told and the rest goes on; run.sh around a
# drive.py that only says how it was called. Skipped without Python.
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

# peers that are missing, are none, or end: each is told, with its own log; the others go on
cat >ends.py <<END
import sys
sys.exit("no torch\n\n")
END
drive --plan clip:17 "$PWD/missing --model {model}" "echo hello" "python3 $PWD/ends.py" "python3 $PWD/peer.py"
none=$?
[ $none -eq 1 ] || fail "peers that gave no figure: exit status $none, expected 1"
grep -q "the peer does not start: .*/missing: No such file" ../out || fail "a missing peer: $(cat ../out)"
grep -q "the peer printed 'hello.n' where a line of JSON belongs" ../out || fail "a program that is no peer: $(cat ../out)"
grep -Eq 'the peer ended \(1\): no torch; see .*-3\.log' ../out || fail "a peer that ends is told: $(cat ../out)"
grep -Eq '^a stand-in +clip:17 +[0-9.]+' ../out || fail "the peer behind them: $(cat ../out)"
grep -q 'no torch' logs/*-3.log || fail "the third peer's log"
[ -s ../err ] && fail "all of it is in the table"

mistake() { # pattern, options: a sentence and no traceback
    pattern=$1
    shift
    drive "$@" "python3 $PWD/peer.py" && fail "drive.py $*"
    grep -q -e "$pattern" ../err || fail "drive.py $*: expected /$pattern/"
    grep -q Traceback ../err && fail "drive.py $*: a traceback"
}
mistake '"dit:64" should be dit:SIZE:TEXT' --plan dit:64
mistake '"vae:0" should be dit:SIZE:TEXT' --plan vae:0
mistake 'repeats: "0" should be a whole number above 0' --repeats 0
mistake '--flux1 .*/absent: there is no such program' --flux1 absent
mistake 'answers bench with something else' --plan clip:17 --flux1 /bin/true
mistake '--model .*: it has no folder transformer' --model "$PWD"
mistake 'No closing quotation' "python3 '"

# an interrupt ends it at once, the peer too
cat >slow.py <<END
import os, signal, sys, time
sys.path.insert(0, "$peers")
from serve import serve
def work():
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(100)
print(os.getpid(), file=open("$PWD/pid", "w"))
serve(lambda stage, size, text: work, peer="slow", versions="none")
END
drive --plan clip:17 "python3 $PWD/slow.py"
interrupted=$?
[ $interrupted -eq 130 ] || fail "an interrupt: exit status $interrupted, expected 130"
[ "$(cat ../err)" = interrupted ] || fail "an interrupt is told in a word"
kill -0 "$(cat pid)" 2>/dev/null && fail "the peer outlives an interrupt"

# run.sh: what it cannot do it says before it makes a model
cat >python <<END
#!/bin/sh
case \$1 in
-c) [ "\$2 \$3" = "\$2 torch" ] && cat "$PWD/lacks" 2>/dev/null || true ;;
make_model.py) mkdir "\$2" && { [ ! -e "$PWD/stop" ] || exit 1; } ;;
drive.py) echo "drove \$*"; exit 1 ;;
esac
END
chmod +x python
run() { "$peers/run.sh" "$@" >../out 2>../err; }
run "$FLUX1" ./python made quicker && fail "run.sh quicker"
run "$FLUX1" ./python made full --sd /bin/true && fail "run.sh full --sd"
grep -q -- '--sd: quick and int8 run it, full does not' ../err || fail "run.sh full --sd"
run ./absent ./python made quick && fail "run.sh without flux1"
grep -q './absent: there is no such program' ../err || fail "run.sh without flux1"
echo torch >lacks
run "$FLUX1" ./python made quick && fail "run.sh without torch"
grep -q './python has no torch: ./python -m pip install' ../err || fail "run.sh without torch"
rm lacks
absent made

# an interrupted model is not taken for one; a table that is not finished is a failure, and the next one is made all the same
touch stop
run "$FLUX1" ./python made quick && fail "run.sh whose model is not finished"
absent made/model
rm -r stop made/model.part
run "$FLUX1" ./python made quick --sd /bin/true && fail "run.sh whose drive.py fails"
[ "$(grep -c '^drove' made/table.txt)" = 2 ] || fail "run.sh: two tables: $(cat ../out)"
finish
