#!/bin/sh
# Every command of README.md's sh blocks is run, as it stands there, in a tree laid out like the repository. What a machine of tests does not have is replaced: DIR and
# the repository that is pulled are the tiny pipeline (the hub is hub_server.py), the hosts are this one, bench at full size only plans; what builds or checks everything
# is looked at, not run. A command of another program that this test does not know fails it.
. "$(dirname "$0")/lib.sh"
if [ ! -f "$MODELS/mini-dev/model_index.json" ]; then
    echo "skipped: the mini models are not in this checkout"
    exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
unset FLUX1_MODELS HF_TOKEN HF_HUB_OFFLINE http_proxy https_proxy all_proxy
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # as which CI runs

# ---- the tree
mkdir build scripts ../bin
ln -s "$FLUX1" build/flux1
ln -s "$SHEET" build/contact_sheet
ln -s "$MODELS" models
cp "$DEMO" scripts/demo
cp -RL "$tiny" DIR
printf '{"prompt": "a red fox", "seed": 7, "output": "fox7.png"}\n' >requests.jsonl
printf '{"prompt": "a red fox"}\n{"prompt": "two owls"}\n' >prompts.jsonl
printf 'a red fox\ntwo owls\n' >prompts.txt
printf '#!/bin/sh\nexec cat >display.png\n' >../bin/display
chmod +x ../bin/display
PATH=$work/bin:$PATH

# ---- the hub
if [ "$HAS_PULL" = ON ] && command -v python3 >/dev/null; then
    mkdir -p "$work/repos/black-forest-labs"
    cp -RL "$tiny" "$work/repos/black-forest-labs/FLUX.1-schnell"
    start_hub "$here"
fi

run() { # command
    eval "$1" >../out 2>../err || fail "README.md: $1: exit status $?"
}
serve_for_a_moment() { # command; at a port that is free
    eval "exec $1 --port 0" >../out 2>../err &
    moments=0
    until grep -q '^flux1: ready: http://127.0.0.1:' ../err || [ $moments -eq 600 ] || ! kill -0 $! 2>/dev/null; do
        sleep 0.1
        moments=$((moments + 1))
    done
    grep -q '^flux1: ready: ' ../err || fail "README.md: $1: is not ready"
    kill -TERM $!
    wait $! || fail "README.md: $1: exit status $?"
    exists history/jobs.sqlite
}
command_of_readme() { # command, without its comment
    case $1 in
    'model=$(build/flux1 pull '*)
        if [ -n "${HF_ENDPOINT:-}" ]; then run "$1"; else model=DIR; fi
        ;;
    'build/flux1 bench '*) run "$1 --repeats 0" ;;
    'build/flux1 serve '*)
        if [ "${HAS_SERVE:-OFF}" = ON ]; then serve_for_a_moment "$1"; fi
        ;;
    'build/flux1 '*--hostfile* | 'mpirun '*)
        if [ "${HAS_PLUGIN:-OFF}" = ON ] && command -v mpirun >/dev/null; then run "$1"; fi
        ;;
    'build/flux1 '* | 'scripts/demo '*) run "$1" ;;
    'printf '*' > hosts')
        run "$1"
        [ "$(cut -d' ' -f2 hosts | sort -u)" = slots=4 ] || fail "README.md: $1: a file of hosts"
        printf 'localhost slots=8\n' >hosts
        ;;
    'eval "$(build/flux1 completion bash)"')
        if command -v bash >/dev/null; then bash -c "$1; complete -p flux1" >../out 2>../err || fail "README.md: $1"; fi
        ;;
    'cmake -S . -B build -G Ninja && ninja -C build') [ -f "$DOCS/../CMakeLists.txt" ] || fail "README.md: $1" ;; # what made this program
    'ctest --test-dir build -L quick') ctest --test-dir "$(dirname "$FLUX1")" -N -L quick | grep -q 'cli_usage' || fail "README.md: $1" ;;
    scripts/check | scripts/check-arm64) bash -n "$DOCS/../$1" || fail "README.md: $1" ;;
    *) fail "README.md has a command that tests/cli/readme.sh does not know: $1" ;;
    esac
}

awk '/^```/ { inside = $0 == "```sh"; next } inside && NF { sub(/  +#.*/, ""); print }' "$DOCS/../README.md" >../commands
[ "$(wc -l <../commands)" -ge 20 ] || fail "README.md has $(wc -l <../commands) commands in sh blocks"
while read -r line <&3; do
    command_of_readme "$line"
done 3<../commands

# what the comments beside them say
for file in demo.png fox.png owls-1.png owls-4.png owls/owl01.webp owls/owl03.webp display.png stages.safetensors fox7.png; do exists $file; done
[ "$("$FLUX1" info owls-4.png | grep -c 'Seed: 10,')" -eq 1 ] || fail "owls-4.png has seed 10"
finish
