#!/bin/sh
# An environment in which tests/ttnn/mock.sh runs: the vendor's library, and a compiler that makes empty programs in place of the vendor's.
# usage: prepare.sh PYTHON FOLDER        PYTHON: 3.10 or 3.12. 700 MB; packages of PyPI and Debian
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^TESTED = "\(.*\)"/\1/p' "$here/../../tools/ttnn/flux1_ttnn.py")
command -v riscv64-unknown-elf-g++ >/dev/null || { echo "prepare.sh: apt-get install gcc-riscv64-unknown-elf" >&2; exit 1; }
"$1" -m venv "$2"
"$2/bin/pip" install -q "ttnn==$version"
compiler=$("$2/bin/python" -c 'import importlib.util, os; print(os.path.dirname(importlib.util.find_spec("ttnn").origin))')/runtime/sfpi/compiler/bin
mkdir -p "$compiler"
cp "$here/stub-g++" "$compiler/riscv-tt-elf-g++"
chmod +x "$compiler/riscv-tt-elf-g++"
for tool in ld nm objcopy objdump size; do ln -sf "$(command -v riscv64-unknown-elf-$tool)" "$compiler/riscv-tt-elf-$tool"; done
echo "FLUX1_TTNN_PYTHON=$2/bin/python"
