#!/bin/sh
# Installs into an empty folder and builds the example there through pkg-config, against the shared and the static library; both make the same picture.
# usage: install.sh BUILD_FOLDER EXAMPLE_SOURCE PIPELINE CC
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
