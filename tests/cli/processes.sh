#!/bin/sh
# generate and bench over several processes: under mpirun, and with --launch. Pictures are those that threads make; mistakes are told once; a process that dies, or Ctrl-C,
# ends all of them with one sentence.
. "$(dirname "$0")/lib.sh"
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed (scripts/deps)"; exit 77; }
root=
[ "$(id -u)" -ne 0 ] || root=--allow-run-as-root
# MPI keeps what it has allocated until the end
ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
export ASAN_OPTIONS
FLUX1_TEST_RUN=$work # marks the processes of this test
export FLUX1_TEST_RUN

mpi() { # processes, flux1's arguments; -q: mpirun says nothing of its own
    processes=$1
    shift
    # shellcheck disable=SC2086
    timeout -k 5 240 mpirun -q $root --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n "$processes" "$FLUX1" "$@" >../out 2>../err
    status=$?
}

one_sentence() { # pattern, what
    [ "$(wc -l <../err)" -eq 1 ] || fail "$2: standard error has $(wc -l <../err) lines, expected one sentence"
    grep -Eq -e "$1" ../err || fail "$2: the sentence does not match /$1/"
}

same_pictures() { # a, b
    [ "$("$PICTURE" "$1")" = "$("$PICTURE" "$2")" ] || fail "$1 and $2 differ"
}

# ---- pictures

packed=$PIPELINES/packed
files=$PIPELINES/../files

flux1 generate -q -m "$tiny" -p "a red fox" -S 7 --mesh 2x2 -o threads.png
# orders to other processes take no room on the stack, least of all where there is one process
(ulimit -s 128 && exec timeout -k 5 240 "$FLUX1" generate -q -m "$tiny" -p "a red fox" -S 7 -o small.png >../out 2>../err)
status=$?
expect_status 0 "a stack of 128 KiB"
mpi 4 generate -m "$tiny" -p "a red fox" -S 7 --mesh 2x2 -o four.png
expect_status 0 "four processes"
printf 'four.png\n' | cmp -s - ../out || fail "one process names the picture: $(tr '\n' ' ' <../out)"
[ "$(grep -c 'denoise: ' ../err)" = 1 ] || fail "one process reports progress"
same_pictures threads.png four.png
mpi 2 generate -q -m "$tiny" -p "a red fox" -S 7 --mesh 2x2 -o two.png
expect_status 0 "two processes with two ranks each"
same_pictures threads.png two.png
flux1 generate -q -m "$tiny" -p "a red fox" -S 7 --mesh 2x2 --launch --processes 2 -o launched.png
expect_status 0 "--launch"
same_pictures threads.png launched.png

# every process opens the parts by their paths
parts="--transformer $files/gguf/flux1.gguf --t5 $files/gguf/t5.gguf --clip $files/gguf/clip.gguf"
# shellcheck disable=SC2086
flux1 generate -q -m "$packed" $parts -p "a red fox" -S 7 -W 32 -H 32 --mesh 1x2 -o threads-parts.png
# shellcheck disable=SC2086
mpi 2 generate -q -m "$packed" $parts -p "a red fox" -S 7 -W 32 -H 32 --mesh 1x2 -o parts.png
expect_status 0 "a model of several files"
same_pictures threads-parts.png parts.png

flux1 generate -q -m "$PIPELINES/schnell" --lora "$files/lora/kohya.safetensors:0.5" -p "a red fox" -S 7 -W 32 -H 32 --mesh 2x2 -o threads-lora.png
mpi 2 generate -q -m "$PIPELINES/schnell" --lora "$files/lora/kohya.safetensors:0.5" -p "a red fox" -S 7 -W 32 -H 32 --mesh 2x2 -o lora.png
expect_status 0 "an adapter"
same_pictures threads-lora.png lora.png

flux1 generate -q -m "$packed" --lora "$files/lora/golden/mixed.safetensors:0.5" -p "a red fox" -S 7 -W 32 -H 32 --mesh 2x2 -o threads-merged.png
mpi 2 generate -q -m "$packed" --lora "$files/lora/golden/mixed.safetensors:0.5" -p "a red fox" -S 7 -W 32 -H 32 --mesh 2x2 -o merged.png
expect_status 0 "an adapter that is merged"
same_pictures threads-merged.png merged.png

# the next line works after one that fails; standard input reaches the first process
printf '{"prompt": "a red fox", "seed": 7, "output": "j-1.png"}\n{"prompt": "x", "width": 0}\n{"prompt": "x", "width": 65536, "height": 65536}\n{"prompt": "a red fox", "seed": 7, "output": "j-2.png"}\n' >../lines
flux1 generate -q -m "$tiny" --mesh 2x2 --jsonl --processes 2 <../lines
expect_status 1 "a batch with bad lines"
[ "$(wc -l <../err)" = 2 ] || fail "a sentence for each bad line"
grep -q 'line 2: .*width 0' ../err && grep -q 'line 3: .*max_memory' ../err || fail "both bad lines are told"
same_pictures threads.png j-1.png
same_pictures threads.png j-2.png
echo "a red fox" | "$FLUX1" generate -q -m "$tiny" --prompt-file - -S 7 --mesh 2x2 --processes 2 -o piped.png >../out 2>../err
same_pictures threads.png piped.png
mpi 2 generate -m "$tiny" --mesh 2x1 --jsonl </dev/null
expect_status 0 "no lines at all"
mpi 2 bench -m "$tiny" --mesh 2x1 -W 64 -H 64 --repeats 1 --json
expect_status 0 "bench"
[ "$("$VALUE" ranks <../out)" = 2 ] || fail "bench computes on two ranks"

# ---- mistakes

rm -f -- *
mpi 2 generate -m "$tiny" -p x
expect_status 2 "mpirun without --mesh"
one_sentence '2 processes .*--mesh 1x2' "mpirun without --mesh"
mpi 3 generate -m "$tiny" -p x --mesh 2x1
expect_status 2 "more processes than ranks"
one_sentence 'mesh 2x1 has 2 ranks, but 3 processes .*at most 2' "more processes than ranks"
mpi 2 generate -m "$tiny" --mesh 2x1
expect_status 2 "no prompt"
one_sentence 'needs a prompt' "no prompt"
mpi 2 generate -m ./nowhere -p x --mesh 2x1
expect_status 1 "no model"
one_sentence 'nowhere' "no model"
mpi 1 generate -m "$tiny" -p x --mesh 2x1 : -n 1 env FLUX1_CACHE_DIR=entries "$FLUX1" generate -m "$tiny" -p x --mesh 2x1
expect_status 1 "a cache on one of two processes"
one_sentence 'no cache, mesh 2x1 .*, cache, mesh 2x1 .*must run the same' "a cache on one of two processes"
mpi 2 generate -m "$tiny" -p x --mesh 2x1 --launch
expect_status 2 "--launch under mpirun"
one_sentence '--launch' "--launch under mpirun"
refused 2 '--mesh' generate -m "$tiny" -p x --launch
refused 2 '2by2.*--mesh' generate -m "$tiny" -p x --launch --mesh 2by2
refused 2 '--processes 3: the mesh has 2 ranks' generate -m "$tiny" -p x --mesh 2x1 --processes 3
refused 1 '--hostfile ./none' generate -m "$tiny" -p x --mesh 2x1 --hostfile ./none
mkdir ../empty
PATH=$work/empty "$FLUX1" generate -q -m "$tiny" -p x --mesh 2x1 --launch >../out 2>../err
status=$?
expect_status 1 "--launch without mpirun"
one_sentence 'mpirun, which is not installed' "--launch without mpirun"
nothing_left "mistakes"

# ---- what ends all of them

processes() { # ranks of this test that run, as "rank pid"
    for place in $(grep -lzx "FLUX1_TEST_RUN=$work" /proc/[0-9]*/environ 2>/dev/null); do
        pid=${place#/proc/}
        tr '\0' '\n' 2>/dev/null <"$place" | sed -n "s|^OMPI_COMM_WORLD_RANK=\(.*\)|\1 ${pid%/environ}|p"
    done
}

process_of() { # a rank, which once was not found at the first look, on a busy machine
    for _ in $(seq 50); do
        found=$(processes | sed -n "s/^$1 //p")
        [ -n "$found" ] && break
        sleep 0.1
    done
    echo "$found"
}

start() { # flux1's arguments; returns in the middle of the steps
    "$FLUX1" generate -m "$tiny" -p x -s 10000 -W 256 -H 256 --mesh 2x2 -o x.png "$@" >../out 2>../err </dev/null &
    launched=$!
    for _ in $(seq 200); do
        grep -q 'text encoders' ../err && break
        sleep 0.1
    done
}

ended() { # expected status, pattern of the last line, what
    for _ in $(seq 100); do
        kill -0 $launched 2>/dev/null || break
        sleep 0.1
    done
    kill -0 $launched 2>/dev/null && fail "$3: still there after 10 s" && kill -9 $launched
    wait $launched
    status=$?
    expect_status "$1" "$3"
    # MPI may have a word to say of a process that was killed
    grep '^flux1: ' ../err | grep -vE 'load: |text encoders: ' >../said
    [ "$(wc -l <../said)" = 1 ] || fail "$3: one sentence"
    grep -Eq -e "$2" ../said || fail "$3: the sentence does not match /$2/"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -z "$(processes)" ] && break
        sleep 0.2
    done
    [ -z "$(processes)" ] || fail "$3: processes are left: $(processes | tr '\n' ' ')"
    nothing_left "$3"
}

# on a machine that is busy enough mpirun ends the others before one of them can say which rank it was
late='a process of the mesh was killed, and the others ended before'
for rank in 2 0; do
    for _ in 1 2 3 4; do
        start --launch
        kill -KILL "$(process_of $rank)"
        ended 1 "rank $rank \(process $rank on host .*has ended|$late" "kill -9 of rank $rank"
        grep -q "$late" ../said || break
    done
    grep -q "$late" ../said && fail "kill -9 of rank $rank: four times nobody has said which rank it was"
done
start --launch
process_of 0 >/dev/null
# shellcheck disable=SC2046
kill -KILL $(processes | sed 's/.* //')
ended 1 "$late" "kill -9 of all"
start --launch
kill -KILL "$(ps -o ppid= -p "$(process_of 0)" | tr -d ' ')"
ended 1 'mpirun was killed \(signal 9\)' "kill -9 of mpirun"
start --launch
kill -INT $launched
ended 130 'interrupted' "SIGINT to --launch"
start --launch
kill -TERM "$(process_of 0)"
ended 130 'interrupted' "SIGTERM to the first process"

finish
