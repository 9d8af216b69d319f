#!/bin/sh
# A step's table, launch by launch, from the plan's events: calls of one shape in a row, with bytes, FLOPs and what they take at a GPU's rates.
# usage: step_table.sh EVENTS h100|h200 [STAGE]      EVENTS: of flux1 bench --dtype bf16 --repeats 0 --events; STAGE: "dit step" if not given
#
# Rates, measured: large bf16 products by cuBLASLt 780 TFLOP/s and cuDNN's attention 650 (H100 at full clocks; an H200 has the same chip), copies 3.0 and 4.0 TB/s.
# A call takes the longer of its FLOPs and its bytes. A product with a gate and a residual is two launches here: the product in bf16, then "exit" (linear.c); where finite
# (or not) and layer_norm of the same rows follow, these are one with the exit: "epilogue_norm" (norms.c), which reads product and x and writes x and its norm.
# q and k are rotated in one launch, so half as many head_norm_rope as events.
[ $# -ge 2 ] && [ -r "$1" ] || { echo "usage: step_table.sh EVENTS h100|h200 [STAGE]" >&2; exit 1; }
case $2 in
h100) memory=3.0e12 ;;
h200) memory=4.0e12 ;;
*) echo "step_table.sh: no rates for \"$2\", only for h100 and h200" >&2; exit 1 ;;
esac
awk -v memory="$memory" -v stage="${3:-dit step}" '
function number(key) { return match($0, "\"" key "\": [0-9.e+]+") ? substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4) + 0 : 0 }
function add(what, times, bytes, flops, rate,    seconds) {
    if (!(what in count)) { order[++rows] = what; moved[what] = bytes; work[what] = flops }
    count[what] += times
    seconds = bytes / memory > flops / rate ? bytes / memory : flops / rate
    each[what] = seconds
}
# What waits for its norm, if that is not what comes.
function end_exit() {
    if (exit_of == "") return
    add("exit " exit_of, 1, 10 * exit_cells, 0, 1)
    if (looked_at) add("finite " exit_of, 1, 4 * exit_cells, 0, 1)
    exit_of = ""
}
index($0, "\"stage\": \"" stage "\"") && /"event": "compute"/ {
    match($0, /"operation": "[a-z_0-9]+"/)
    operation = substr($0, RSTART + 14, RLENGTH - 15)
    m = number("m"); n = number("n"); k = number("k")
    if (exit_of == m " x " n && operation == "finite" && !looked_at) { looked_at = 1; next }
    if (exit_of == m " x " n && operation == "layer_norm") { add("epilogue_norm " exit_of, 1, 12 * exit_cells, 0, 1); exit_of = ""; next }
    end_exit()
    bytes = number("bytes_in") + number("bytes_out") + number("bytes_weights"); flops = number("flops")
    if (operation == "product") {
        rest = number("bytes_in") - 2 * m * k - 4 * m * n # beside input and residual: the gate
        exit_follows = rest >= 0 && rest <= 64 * n && number("bytes_out") == 4 * m * n
        if (exit_follows) bytes = 2 * (m * k + m * n) + number("bytes_weights")
        add(sprintf("product %d x %d x %d", m, n, k), 1, bytes, flops, 780e12)
        if (exit_follows) { exit_of = m " x " n; exit_cells = m * n; looked_at = 0 }
    } else if (operation == "attention")
        add(sprintf("attention %d x %d, %d heads of %d", m, n, number("heads"), k), 1, bytes, flops, 650e12)
    else if (operation == "head_norm_rope")
        add(sprintf("head_norm_rope %d x 2 x %d", m, n), 0.5, 2 * bytes, 0, 1)
    else
        add(sprintf("%s %d x %d", operation, m, n), 1, bytes, 0, 1)
}
END {
    end_exit()
    if (!rows) { print "no event of stage \"" stage "\"" > "/dev/stderr"; exit 1 }
    print "| launch | count | MB | GFLOP | µs each | ms |"
    print "|---|---|---|---|---|---|"
    for (i = 1; i <= rows; i++) {
        what = order[i]
        ms = count[what] * each[what] * 1e3
        printf "| %s | %d | %.1f | %s | %.1f | %.2f |\n", what, count[what], moved[what] / 1e6, work[what] ? sprintf("%.1f", work[what] / 1e9) : "", each[what] * 1e6, ms
        launches += count[what]; all += ms; flops_all += count[what] * work[what]
    }
    printf "| **sum** | %d | | %.0f | | **%.1f** |\n", launches, flops_all / 1e9, all
}' "$1"
