#!/bin/sh
# Holds our GPU kernels to what a GPU has, by what ptxas said of them (the log that cmake/kernels.sh keeps): nothing spilled beside the exceptions below, registers for
# a block of 256 threads (no kernel has more: KERNEL in kernels_device.h), static shared memory of 48 KiB. Every kernel of kernels.h is there, for every architecture.
# usage: ptxas.sh LOG KERNELS.H      ptxas.sh --self-test

# architecture, kernel, bytes that may be spilled, with nvcc 13.0; neither is a kernel of a step on one GPU
exceptions='sm_80 attention_merge 4
sm_100 group_stats 12'

check() { # log, names of kernels
    awk -v exceptions="$exceptions" -v names="$2" '
    function wrong(sentence) { print kernel " on " architecture ": " sentence; bad = 1 }
    BEGIN {
        n = split(exceptions, line, "\n")
        for (i = 1; i <= n; i++) { split(line[i], f, " "); allowed[f[1] " " f[2]] = f[3] }
    }
    /Compiling entry function/ {
        split($0, quoted, "\047")
        kernel = substr(quoted[2], 7)
        architecture = quoted[4]
        architectures[architecture] = seen[architecture " " kernel] = 1
    }
    /bytes spill stores/ {
        for (i = 1; i <= NF; i++) if ($i == "spill") { spilled = $(i - 2); break }
        if (spilled > allowed[architecture " " kernel] + 0) wrong("spills " spilled " bytes")
    }
    /Used [0-9]+ registers/ {
        shared = 0
        for (i = 1; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i ~ /^smem/) shared = $(i - 2)
        }
        used[architecture " " kernel] = 1
        if (registers * 256 > 65536) wrong(registers " registers a thread, more than 256 threads can have")
        if (shared > 49152) wrong(shared " bytes of static shared memory, more than 48 KiB")
    }
    END {
        n = split(names, name, " ")
        for (architecture in architectures)
            for (i = 1; i <= n; i++) {
                kernel = name[i]
                if (!seen[architecture " " kernel] || !used[architecture " " kernel]) wrong("ptxas said nothing of it")
                count++
            }
        if (!count) { print "the log has no kernel"; bad = 1 }
        if (!bad) print count " kernels, all within limits"
        exit bad
    }' "$1"
}

self_test() {
    log=$(mktemp) && trap 'rm -f "$log"' EXIT
    entry() { # kernel, spilled, registers, shared
        printf "ptxas info    : Compiling entry function 'flux1_%s' for 'sm_90a'\n    0 bytes stack frame, %s bytes spill stores, %s bytes spill loads\n" "$1" "$2" "$2"
        printf 'ptxas info    : Used %s registers, used 1 barriers, %s bytes smem\n' "$3" "$4"
    }
    { entry first 0 255 49152; entry second 0 8 0; } >"$log"
    check "$log" "first second" || { echo "good kernels are refused"; return 1; }
    for bad in "second 4 8 0" "second 0 257 0" "second 0 8 49153"; do
        { entry first 0 255 49152; entry $bad; } >"$log"
        check "$log" "first second" && { echo "not noticed: $bad"; return 1; }
    done
    check "$log" "first second third" | grep -q 'third on sm_90a: ptxas said nothing' || { echo "a kernel that is not there is not noticed"; return 1; }
    : >"$log"
    check "$log" "first" && { echo "an empty log passes"; return 1; }
    return 0
}

if [ "$1" = --self-test ]; then
    self_test
else
    check "$1" "$(awk '/^#define CUDA_KERNELS/, !/\\$/ { if (match($0, /X\([a-z0-9_]+,/)) print substr($0, RSTART + 2, RLENGTH - 3) }' "$2" | tr '\n' ' ')"
fi
