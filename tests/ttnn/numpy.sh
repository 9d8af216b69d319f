#!/bin/sh
# A script of this folder in the first Python that has numpy: FLUX1_TTNN_PYTHON, PATH's, the system's.
# usage: numpy.sh SCRIPT FLUX1 PIPELINE        exit 77: there is none
here=$(cd "$(dirname "$0")" && pwd)
script=$1
shift
export FLUX1_TTNN_BLOCKINGS=/nowhere/table.json # not this machine's
export OPENBLAS_NUM_THREADS=1 # of products this small its threads only wait for each other
for python in "${FLUX1_TTNN_PYTHON:-python3}" python3 /usr/bin/python3; do
    "$python" -c 'import sys, numpy; assert sys.version_info >= (3, 10)' 2>/dev/null && exec "$python" -B "$here/$script" "$@"
done
echo "skipped: no Python has numpy (Debian: python3-numpy)"
exit 77
