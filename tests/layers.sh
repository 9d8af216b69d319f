#!/bin/sh
# Holds the includes to the order of the rooms (docs/architecture.md):
#   base < tensor < weights < text < ops < mesh < model < pipeline; image sees base only; cli sees base and the public headers only;
#   the public headers see nothing of src; a bench or test of a room may see it and what lies below (CMake links no more).
# usage: layers.sh SOURCE_FOLDER          exit 0: in order; 1: each violation on a line
#        layers.sh SOURCE_FOLDER --self-test   shows that violations are found
set -eu

check() { # folder with src/ and include/
    find "$1/src" "$1/include" -name '*.[ch]' | sort | while read -r file; do
        awk -v root="$1/" -v file="$file" '
        BEGIN {
            n = split("base tensor weights text ops mesh model pipeline", order, " ")
            for (i = 1; i <= n; i++) level[order[i]] = i
            name = substr(file, length(root) + 1)
            split(name, part, "/")
            room = part[1] == "include" ? "include" : part[2]
        }
        function allowed(from, to) {
            if (to == from) return 1
            if (from == "image" || from == "cli") return to == "base"
            if (to == "image") return from == "pipeline"
            return from in level && to in level && level[to] < level[from]
        }
        # a file of its own folder, named without its room
        function beside(path) {
            if (path ~ /\.\./) return 0
            path = substr(file, 1, length(file) - length(part[split(file, part, "/")])) path
            found = (getline line < path) >= 0
            close(path)
            return found
        }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, quoted, "\"")
            path = quoted[2]
            slash = index(path, "/")
            if (room == "include") {
                if (path !~ /^flux1[a-z_]*\.h$/) print name ":" NR ": a public header includes \"" path "\""
            } else if (beside(path)) {
            } else if (!slash) {
                if (path !~ /^flux1[a-z_]*\.h$/) print name ":" NR ": \"" path "\" does not name its room"
            } else if (!allowed(room, substr(path, 1, slash - 1)))
                print name ":" NR ": room " room " may not include \"" path "\""
        }' "$file"
    done
}

# One line of violation for each planted include, none for the good ones.
self_test() {
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/include" "$dir/src/base" "$dir/src/ops/ref" "$dir/src/model" "$dir/src/image" "$dir/src/cli" "$dir/src/pipeline"
    echo '#include "flux1.h"' >"$dir/include/flux1_tools.h"
    printf '#include <stdio.h>\n#include "flux1.h"\n#include "base/file.h"\n' >"$dir/src/base/good.c"
    printf '#include "ops/ops.h"\n#include "base/file.h"\n#include "weights/store.h"\n' >"$dir/src/ops/ref/good.c"
    printf '#include "good.h"\n' >"$dir/src/model/good.c"
    : >"$dir/src/model/good.h"
    printf '#include "image/png.h"\n#include "model/vae.h"\n#include "text/clip.h"\n' >"$dir/src/pipeline/good.c"
    printf '#include "flux1_tools.h"\n#include "base/json.h"\n' >"$dir/src/cli/good.c"
    [ -z "$(check "$dir")" ] || { echo "self-test: a permitted include was refused"; check "$dir"; exit 1; }
    expected=0
    for bad in include/flux1.h:base/status.h src/base/a.c:tensor/tensor.h src/ops/ref/b.c:mesh/mesh.h src/model/c.c:pipeline/run.h \
        src/image/d.c:tensor/tensor.h src/cli/e.c:pipeline/run.h src/cli/f.c:image/png.h src/model/g.c:image/png.h src/model/h.c:vae.h \
        src/base/i.c:nowhere/x.h; do
        printf '  #  include "%s"\n' "${bad#*:}" >"$dir/${bad%%:*}"
        expected=$((expected + 1))
    done
    found=$(check "$dir" | wc -l)
    [ "$found" -eq "$expected" ] || { echo "self-test: $expected violations planted, $found found"; check "$dir"; exit 1; }
}

if [ "${2:-}" = --self-test ]; then
    self_test
    exit 0
fi
violations=$(check "$1")
[ -z "$violations" ] || { echo "$violations"; exit 1; }
