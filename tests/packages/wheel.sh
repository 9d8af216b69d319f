#!/bin/sh
# The wheel in a virtual environment, with numpy and Pillow from PyPI: the package's tests run with it, it needs no library but libc and libm, auditwheel agrees
# with its tag, and pip removes all of it.
# usage: wheel.sh BUILD_FOLDER PYTHON TEST     environment: as TEST has it
# exit 77: PyPI is out of reach
set -eu
build=$1 python=$2 test=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "$*"; exit 1; }
"$python" -m venv "$dir/venv" 2>/dev/null || { echo "skipped: $python makes no virtual environment"; exit 77; }
pip="$dir/venv/bin/pip --disable-pip-version-check -q"
$pip install --retries 1 --timeout 15 numpy pillow auditwheel pyelftools 2>"$dir/log" || { tail -n 2 "$dir/log"; echo "skipped: PyPI is out of reach"; exit 77; }
cmake --build "$build" -t wheel >"$dir/log" 2>&1 || { cat "$dir/log"; fail "the wheel cannot be made"; }
wheel=$(ls -t "$build"/dist/*.whl | head -n 1)
(cd "$dir/venv" && find lib -type f ! -path '*/__pycache__/*' | sort) >"$dir/before"
$pip install --no-index "$wheel[pil]"

for file in LICENSE NOTICE python/NOTICE.libraries; do
    cmp "$SOURCE/$file" "$dir"/venv/lib/python*/site-packages/flux1-*.dist-info/licenses/"$(basename $file)"
done
unset PYTHONPATH FLUX1_LIBRARY
"$dir/venv/bin/python" "$test"
"$dir/venv/bin/python" - <<'END'
import flux1, flux1._library, os, sys
path = flux1._library._path()
assert path.startswith(sys.prefix), path
maps = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
foreign = [m for m in maps if any(n in m for n in ("libpng", "libjpeg", "libwebp", "libutf8proc"))]
assert not foreign, foreign
END
case $wheel in
*manylinux*)
    "$dir/venv/bin/python" -m auditwheel show "$wheel" >"$dir/audit" 2>&1 || { cat "$dir/audit"; fail "auditwheel refuses the wheel"; }
    cat "$dir/audit"
    tag=$(basename "$wheel" .whl | sed 's/.*-\(manylinux.*\)/\1/')
    number=$(tr '\n' ' ' <"$dir/audit" | sed -n 's/.*is consistent with the following platform tag: *"manylinux_2_\([0-9]*\)_.*/\1/p')
    [ -n "$number" ] && [ "$number" -le "$(echo "$tag" | cut -d_ -f3)" ] || fail "auditwheel does not agree with $tag"
    ;;
*) fail "$wheel is for this system alone" ;;
esac
$pip uninstall -y flux1
(cd "$dir/venv" && find lib -type f ! -path '*/__pycache__/*' | sort) >"$dir/after"
diff "$dir/before" "$dir/after" || fail "the wheel leaves files"
