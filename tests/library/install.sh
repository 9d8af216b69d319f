#!/bin/sh
# Installs into an empty folder and builds the example there through pkg-config, against the shared and the static library; both make the same picture.
# The mini models, where the source tree's MODELS folder has them, are installed with their links kept, and the installed program finds its own copy.
# usage: install.sh BUILD_FOLDER EXAMPLE_SOURCE PIPELINE CC MODELS
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cmake --install "$1" --prefix "$dir/usr" >/dev/null
pc=$(find "$dir/usr" -name flux1.pc)
lib=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
config() { pkg-config --define-variable=prefix="$dir/usr" "$@" flux1; }
for file in bin/flux1 include/flux1.h include/flux1_tools.h share/man/man1/flux1.1 share/bash-completion/completions/flux1 share/zsh/site-functions/_flux1 \
    share/fish/vendor_completions.d/flux1.fish; do
    [ -s "$dir/usr/$file" ] || { echo "$file is not installed"; exit 1; }
done
# shellcheck disable=SC2046
"$4" "$2" $(config --cflags --libs) -o "$dir/shared"
# shellcheck disable=SC2046
"$4" "$2" $(config --cflags) "$lib/libflux1.a" $(config --static --libs | sed 's/-lflux1//') -o "$dir/static"
LD_LIBRARY_PATH=$lib "$dir/shared" "$3" "a red fox" "$dir/shared.png" 2>/dev/null
"$dir/static" "$3" "a red fox" "$dir/static.png" 2>/dev/null
cmp "$dir/shared.png" "$dir/static.png"
"$dir/usr/bin/flux1" generate -m "$3" -p "a red fox" -S 42 -o "$dir/cli.png" --quiet >/dev/null
cmp "$dir/shared.png" "$dir/cli.png"

if [ ! -f "$5/mini-schnell/model_index.json" ]; then
    echo "the mini models are not in this checkout: their installation is not tested"
    exit 0
fi
models=$dir/usr/share/flux1/models
(cd "$5" && find . -type l) >"$dir/links"
while read -r link; do
    [ "$(readlink "$models/$link")" = "$(readlink "$5/$link")" ] || { echo "$link: a link in $5, not the same link in $models"; exit 1; }
done <"$dir/links"
env -u FLUX1_MODEL -u FLUX1_MODELS "$dir/usr/bin/flux1" generate -p "a red fox" -S 42 -o "$dir/mini.png" >/dev/null 2>"$dir/err"
grep -q "using the mini model $models/mini-schnell " "$dir/err" || { echo "the installed program does not use the installed model:"; cat "$dir/err"; exit 1; }
"$dir/usr/bin/flux1" generate -m "$models/mini-dev" -p "a red fox" -S 42 -s 2 -o "$dir/dev.png" --quiet >/dev/null
