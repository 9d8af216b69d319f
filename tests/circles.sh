#!/bin/sh
# No circles between units: a unit is a .c file with its .h, and it depends on another where its object uses a symbol that the other's defines.
# usage: circles.sh FILE                  FILE names every object file of the modules and the program, one a line; exit 0: none; 1: each circle with its edges
#        circles.sh --self-test CC        shows that a circle is found
set -eu
LC_ALL=C
export LC_ALL

# Circles that are still there, one a line: units between spaces. A circle within such a line passes; take a line out when its circle is untied.
known='
'

check() { # known circles; standard input: names of object files
    tr '\n' '\0' | xargs -0 nm -A -P -g | awk -v known="$1" '
    { # path: symbol type …
        unit = $1
        sub(/:$/, "", unit)
        sub(/CMakeFiles\/[^\/]*\.dir\//, "", unit)
        sub(/^.*\/src\//, "", unit)
        sub(/\/\.\//, "/", unit)
        sub(/\.c\.o$/, "", unit)
        if (!(unit in seen)) seen[names[++n] = unit] = n
        if ($3 ~ /^[Uwv]$/) use[++uses] = unit SUBSEP $2
        else if (!($2 in home)) home[$2] = unit
    }
    function visit(from, at, i, count, next_units) { # all that "from" reaches
        count = split(edges[at], next_units, " ")
        for (i = 1; i <= count; i++)
            if (!((from, next_units[i]) in reach)) {
                reach[from, next_units[i]] = 1
                visit(from, next_units[i])
            }
    }
    function excused(members, line, i, j, count, unit, lines, all) {
        count = split(members, unit, " ")
        for (i = split(known, lines, "\n"); i > 0; i--) {
            all = 1
            for (j = 1; j <= count; j++) all = all && index(" " lines[i] " ", " " unit[j] " ")
            if (all) return found[i] = 1
        }
        return 0
    }
    END {
        for (i = 1; i <= uses; i++) {
            split(use[i], part, SUBSEP)
            if (!(part[2] in home) || (to = home[part[2]]) == part[1] || (part[1], to) in symbol) continue
            symbol[part[1], to] = part[2]
            edges[part[1]] = edges[part[1]] " " to
        }
        for (i = 1; i <= n; i++) visit(names[i], names[i])
        for (i = 1; i <= n; i++) {
            if (names[i] in done || !((names[i], names[i]) in reach)) continue
            members = names[i]
            for (j = i + 1; j <= n; j++)
                if ((names[i], names[j]) in reach && (names[j], names[i]) in reach) {
                    members = members " " names[j]
                    done[names[j]] = 1
                }
            if (excused(members)) continue
            print "circle: " members
            count = split(members, member, " ")
            for (j = 1; j <= count; j++)
                for (k = 1; k <= count; k++)
                    if ((member[j], member[k]) in symbol) print "  " member[j] " uses " member[k] "'"'"'s " symbol[member[j], member[k]]
        }
        for (i = split(known, lines, "\n"); i > 0; i--)
            if (split(lines[i], unit_of, " ") && (unit_of[1] in seen) && !(i in found)) print "note: untied, take it out of circles.sh: " lines[i]
    }'
}

self_test() { # C compiler
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/src/a/CMakeFiles/module_a.dir" "$dir/src/b/CMakeFiles/module_b.dir"
    unit() { # object's path below src, C source
        echo "$2" | "$cc" -x c -c -o "$dir/src/$1" -
        echo "$dir/src/$1" >>"$dir/list"
    }
    cc=$1
    unit a/CMakeFiles/module_a.dir/low.c.o 'int low(void) { return 1; }'
    unit a/CMakeFiles/module_a.dir/top.c.o 'int low(void); int top(void) { return low(); }'
    [ -z "$(check '' <"$dir/list")" ] || { echo "self-test: a good tree was refused"; check '' <"$dir/list"; exit 1; }
    unit b/CMakeFiles/module_b.dir/x.c.o 'int y(void), low(void); int x(void) { return y() + low(); }'
    unit b/CMakeFiles/module_b.dir/y.c.o 'extern const int z; int y(void) { return z; }'
    unit b/CMakeFiles/module_b.dir/z.c.o 'int x(void); const int z = 3; int (*call)(void) = x;'
    found=$(check '' <"$dir/list")
    [ "$(echo "$found" | head -n 1)" = "circle: b/x b/y b/z" ] || { echo "self-test: the planted circle was not found: $found"; exit 1; }
    [ -z "$(check 'b/x b/y b/z other' <"$dir/list")" ] || { echo "self-test: a known circle was refused"; exit 1; }
    check 'b/x b/y' <"$dir/list" | grep -q '^circle: b/x b/y b/z$' || { echo "self-test: a circle larger than a known one was not found"; exit 1; }
}

if [ "$1" = --self-test ]; then
    self_test "$2"
    exit 0
fi
[ -s "$1" ] || { echo "$1: no list of objects"; exit 1; }
circles=$(check "$known" <"$1")
[ -z "$circles" ] || echo "$circles"
! echo "$circles" | grep -q '^circle'
