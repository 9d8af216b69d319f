#!/bin/sh
# The example of previews: its picture is the command line's, a preview came at every step but the last, the other picture was cancelled and left no file.
# usage: preview.sh EXAMPLE FLUX1 PIPELINE
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$1" "$3" "a red fox" fox.png 2>err || { cat err; exit 1; }
grep -q '^fox.png: done, [1-9][0-9]* previews$' err || { echo "no previews:"; cat err; exit 1; }
grep -q '^cancelled.png: cancelled$' err || { echo "the second picture was not cancelled:"; cat err; exit 1; }
[ ! -e cancelled.png ] || { echo "the cancelled picture left a file"; exit 1; }
"$2" generate -m "$3" -p "a red fox" -S 42 -o cli.png --quiet >/dev/null
cmp fox.png cli.png
