#!/bin/sh
# The example of previews: its picture is the command line's, previews of its size came after each step in turn, the other picture was cancelled and left no file.
# usage: preview.sh EXAMPLE FLUX1 PIPELINE
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$1" "$3" "a red fox" fox.png 2>err || { cat err; exit 1; }
# width and height lie at byte 16 of a PNG
size=$(od -An -tu1 -j16 -N8 fox.png | { read -r _ _ c d _ _ g h && echo "$((256 * c + d))×$((256 * g + h))"; })
steps=$(sed -n "s/^step \([0-9]*\) of 4: preview of $size\$/\1/p" err | tr '\n' ' ')
[ "$steps" = "1 2 3 4 " ] || { echo "previews of $size after the steps: $steps"; cat err; exit 1; }
grep -q '^fox.png: done, 4 previews$' err || { echo "other previews:"; cat err; exit 1; }
grep -q '^cancelled.png: cancelled$' err || { echo "the second picture was not cancelled:"; cat err; exit 1; }
[ ! -e cancelled.png ] || { echo "the cancelled picture left a file"; exit 1; }
"$2" generate -m "$3" -p "a red fox" -S 42 -o cli.png --quiet >/dev/null
cmp fox.png cli.png
