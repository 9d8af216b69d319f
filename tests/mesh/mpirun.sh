#!/bin/sh
# Runs a program as several processes of one host. Exit status 77: this build has no plug-in, or there is no mpirun.
# usage: mpirun.sh PROCESSES PROGRAM [ARGUMENT]…
# environment: HAS_PLUGIN (ON), MPIRUN_FLAGS
set -eu
[ "${HAS_PLUGIN:-OFF}" = ON ] || { echo "skipped: this build has no plug-in for MPI"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed (scripts/deps)"; exit 77; }
processes=$1
shift
root=
[ "$(id -u)" -ne 0 ] || root=--allow-run-as-root
# MPI keeps what it has allocated until the end
ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
export ASAN_OPTIONS
# shellcheck disable=SC2086
exec mpirun $root --oversubscribe --bind-to none -n "$processes" --mca mpi_yield_when_idle 1 ${MPIRUN_FLAGS:-} "$@"
