#!/bin/sh
# usage: kernels.sh LOG COMPILER ARGUMENT…    compiles, and keeps what ptxas tells of each kernel (registers, shared memory, spills) in LOG; shows the rest
log=$1
shift
"$@" >"$log" 2>&1
status=$?
if [ $status -eq 0 ]; then grep -v '^ptxas info\|bytes stack frame' "$log"; else cat "$log"; fi >&2
exit $status
