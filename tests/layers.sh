#!/bin/sh
# Holds the includes of src/ and include/ to the order of the modules and to what each knows nothing of (the table of docs/architecture.md):
#   base < tensor < weights < text < ops < mesh < model < pipeline < tools; image, fetch and server see base only;
#   cli sees base, server and the public headers only;
#   the messages of the library name no options of the command line, but whole commands (src/cli/hints.c adds options to messages);
#   the public headers see nothing of src; tests and benchmarks are held by what CMake links them with.
# usage: layers.sh SOURCE_FOLDER           exit 0: in order; 1: each violation on a line
#        layers.sh --self-test             shows that violations are found
set -eu

# What an order of modules does not say: module, what it may not include (regular expression), but for (regular expression or -).
blind='
tensor    ^base/(file|json)[.]h$ -
text      ^(tensor|weights)/     -
ops       ^(weights/|base/json)  ^weights/(recipe|small_cache)[.]h$
mesh      ^ops/.*/               -
model     ^(ops|mesh)/           ^(ops/ops|mesh/mesh)[.]h$
pipeline  ^ops/.*/|getopt        -
tools     ^ops/.*/|getopt        -
'

check() { # folder with src/ and include/
    find "$1/src" "$1/include" -name '*.[ch]' -o -name '*.cu' | sort | while read -r file; do
        awk -v root="$1/" -v file="$file" -v blind="$blind" '
        BEGIN {
            n = split("base tensor weights text ops mesh model pipeline tools", order, " ")
            for (i = 1; i <= n; i++) level[order[i]] = i
            name = substr(file, length(root) + 1)
            split(name, part, "/")
            module = part[1] == "include" ? "include" : part[2]
            for (i = split(blind, row, "\n"); i > 0; i--)
                if (split(row[i], field, " ") == 3 && field[1] == module) {
                    unseen = field[2]
                    save = field[3]
                }
        }
        function allowed(from, to) {
            if (to == from) return 1
            if (from == "cli" && to == "server") return 1
            if (from == "image" || from == "fetch" || from == "server" || from == "cli") return to == "base"
            if (to == "image") return from == "pipeline" || from == "tools"
            if (to == "fetch") return from == "tools"
            return from in level && to in level && level[to] < level[from]
        }
        # a file of its own folder, named without its module
        function beside(path) {
            if (path ~ /\.\./) return 0
            path = substr(file, 1, length(file) - length(part[split(file, part, "/")])) path
            found = (getline line < path) >= 0
            close(path)
            return found
        }
        module !~ /^(cli|server|include)$/ && !/^[ \t]*(\/\*|\*)/ && /"[^"]*--[a-z]/ && !/(flux1|hf|srun|docker) -*[a-z]/ {
            print name ":" NR ": a message names an option: " $0
        }
        /^[ \t]*#[ \t]*include[ \t]*["<]/ {
            quote = $0 ~ /include[ \t]*"/
            split($0, quoted, quote ? "\"" : "[<>]")
            path = quoted[2]
            slash = index(path, "/")
            if (unseen != "" && path ~ unseen && !(save != "-" && path ~ save)) {
                print name ":" NR ": module " module " knows nothing of \"" path "\""
                next
            }
            if (!quote) next
            if (module == "include") {
                if (path !~ /^flux1[a-z_]*\.h$/) print name ":" NR ": a public header includes \"" path "\""
            } else if (beside(path)) {
            } else if (!slash) {
                if (path !~ /^flux1[a-z_]*\.h$/) print name ":" NR ": \"" path "\" does not name its module"
            } else if (!allowed(module, substr(path, 1, slash - 1)))
                print name ":" NR ": module " module " may not include \"" path "\""
        }' "$file"
    done
}

# One line of violation for each planted include, none for the good ones.
self_test() {
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/include"
    for module in base tensor weights text ops/ref ops/cuda mesh model image fetch pipeline tools server cli; do mkdir -p "$dir/src/$module"; done
    echo '#include "flux1.h"' >"$dir/include/flux1_tools.h"
    printf '#include <stdio.h>\n#include "flux1.h"\n#include "base/file.h"\n' >"$dir/src/base/good.c"
    printf '#include "ops/ops.h"\n#include "base/file.h"\n#include "weights/recipe.h"\n' >"$dir/src/ops/ref/good.c"
    printf '#include "good.h"\n#include "ops/cuda/kernels.h"\n#include <stdint.h>\n' >"$dir/src/ops/cuda/good.cu"
    printf '#include "good.h"\n#include "ops/ops.h"\n#include "mesh/mesh.h"\n' >"$dir/src/model/good.c"
    : >"$dir/src/model/good.h"
    : >"$dir/src/ops/cuda/good.h"
    printf '#include "image/png.h"\n#include "model/vae.h"\n#include "text/clip.h"\n' >"$dir/src/pipeline/good.c"
    printf '#include "pipeline/context.h"\n#include "tools/peak.h"\n#include "fetch/fetch.h"\n' >"$dir/src/tools/good.c"
    printf '#include "flux1_tools.h"\n#include "base/json.h"\n' >"$dir/src/server/good.c"
    printf '#include "flux1_tools.h"\n#include "base/json.h"\n#include "server/server.h"\n' >"$dir/src/cli/good.c"
    printf '%s\n' '/* "x", as --lora takes it */' 'char a[] = "x; flux1 info --verify finds it";' >"$dir/src/model/named.c"
    printf 'char a[] = "allow it with --allow-host";\n' >"$dir/src/server/named.c"
    [ -z "$(check "$dir")" ] || { echo "self-test: a permitted include was refused"; check "$dir"; exit 1; }
    expected=0
    for bad in include/flux1.h:base/status.h src/base/a.c:tensor/tensor.h src/ops/ref/b.c:mesh/mesh.h src/model/c.c:pipeline/run.h \
        src/image/d.c:tensor/tensor.h src/fetch/d.c:weights/small_cache.h src/pipeline/v.c:fetch/fetch.h src/base/w.c:fetch/url.h src/cli/e.c:pipeline/run.h src/cli/f.c:image/png.h src/model/g.c:image/png.h src/model/h.c:vae.h \
        src/base/i.c:nowhere/x.h src/pipeline/j.c:tools/peak.h src/cli/k.c:tools/peak.h src/ops/cuda/l.cu:model/dit.h src/tensor/m.c:base/file.h \
        src/text/n.c:tensor/tensor.h src/text/o.h:weights/store.h src/ops/ref/p.c:weights/store.h src/model/q.c:ops/cuda/cuda.h \
        src/model/r.c:mesh/comm.h src/server/x.c:cli/cli.h src/server/y.c:image/png.h src/tools/z.c:server/server.h src/tools/s.c:ops/cpu/cpu.h src/mesh/t.c:ops/cuda/link.h; do
        printf '  #  include "%s"\n' "${bad#*:}" >"$dir/${bad%%:*}"
        expected=$((expected + 1))
    done
    printf '#include <getopt.h>\n' >"$dir/src/pipeline/u.c"
    printf 'char a[] = "no such file; --model takes another";\n' >"$dir/src/pipeline/o.c"
    expected=$((expected + 2))
    found=$(check "$dir" | wc -l)
    [ "$found" -eq "$expected" ] || { echo "self-test: $expected violations planted, $found found"; check "$dir"; exit 1; }
}

if [ "$1" = --self-test ]; then
    self_test
    exit 0
fi
violations=$(check "$1")
[ -z "$violations" ] || { echo "$violations"; exit 1; }
