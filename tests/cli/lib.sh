# Shared by the command line's tests. Each runs in an empty folder of its own.
#   FLUX1: the program; PIPELINES: tests/data/pipelines; VALUE: json_value, PICTURE: picture_info
# Every check prints what it expected when it fails, and the script goes on: `finish` gives the exit status.
set -u
failures=0
work=$(mktemp -d)
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
mkdir run
cd run || exit 1
unset FLUX1_MODEL FLUX1_PATH
export HF_HUB_CACHE=$work/hub # no models of the machine's
export XDG_CACHE_HOME=${FLUX1%/*}/test_cache # not the user's: what is measured here is measured beside other tests
export FLUX1_MODELS= # no mini model but where a test says so
tiny=$PIPELINES/schnell

fail() { # what
    printf 'FAILED: %s\n' "$1"
    [ -s ../err ] && sed 's/^/    stderr: /' ../err
    failures=$((failures + 1))
}

# Runs flux1 with the arguments, four minutes at most; standard output in ../out, standard error in ../err, exit status in $status.
flux1() {
    timeout -k 5 240 "$FLUX1" "$@" >../out 2>../err
    status=$?
}

expect_status() { # expected, what
    [ "$status" -eq "$1" ] || fail "$2: exit status $status, expected $1"
}

# Starts hub_server.py (in folder $1) on $work/repos; it does what $work/mode says and writes $work/log. Sets hub_port, cdn_port.
start_hub() {
    python3 "$1/hub_server.py" "$work/repos" "$work/mode" "$work/log" "$work/ports" &
    server=$!
    trap 'kill $server 2>/dev/null; chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -s "$work/ports" ] && break
        sleep 0.25
    done
    [ -s "$work/ports" ] || { echo "FAILED: the server does not start"; exit 1; }
    read -r hub_port cdn_port <"$work/ports"
    export HF_ENDPOINT="http://127.0.0.1:$hub_port"
}

# A refusal: exit status, a pattern (extended, any case) that the sentence matches, then flux1's arguments.
# Standard error has exactly that one line, and no file is left in the folder that was not there.
refused() {
    wanted=$1 pattern=$2
    shift 2
    ls -A >../before
    flux1 "$@"
    ls -A >../after
    [ "$status" -eq "$wanted" ] || fail "flux1 $*: exit status $status, expected $wanted"
    [ "$(wc -l <../err)" -eq 1 ] || fail "flux1 $*: standard error has $(wc -l <../err) lines, expected one sentence"
    grep -Eiq -e "$pattern" ../err || fail "flux1 $*: the sentence does not match /$pattern/"
    cmp -s ../before ../after || fail "flux1 $*: left $(comm -13 ../before ../after | tr '\n' ' ')behind"
}

exists() { [ -f "$1" ] || fail "$1 was not written"; }
absent() { [ ! -e "$1" ] || fail "$1 exists"; }
nothing_left() { # what: no file at all, temporary ones included
    [ -z "$(ls -A)" ] || fail "$1: left $(ls -A | tr '\n' ' ')"
}

finish() {
    [ "$failures" -eq 0 ] && exit 0
    echo "$failures checks failed"
    exit 1
}
