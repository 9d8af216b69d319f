#!/bin/sh
# Ring attention over a link of limited speed, between two hosts made of network namespaces: as it is, without overlap, and as gather-then-attend
# (bench/ring.c). Takes about a minute on a machine that does nothing else; needs root.
# usage: bench/network.sh BUILD [RATE [THREADS [bf16|f32]]]    BUILD: a build folder with FLUX1_BENCH=ON; RATE as tc writes it (1gbit); THREADS of each host (1)
set -eu
build=$(cd "$1" && pwd) rate=${2:-1gbit}
[ $# -lt 2 ] || shift
shift
folder=$(cd "$(dirname "$0")/.." && pwd)
FLUX1_PLUGINS=$build HOSTS_SECONDS=${HOSTS_SECONDS:-300}
export FLUX1_PLUGINS HOSTS_SECONDS
echo "link: $rate"
exec bash "$folder/tests/support/hosts.sh" 2 "$rate" "$build/bench/bench_ring" "$@"
