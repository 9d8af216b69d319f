#!/bin/sh
# Installs into an empty folder, moves it, and builds the example there, against the shared and the static library, through pkg-config and through CMake's
# find_package: all make the same picture. Nothing but the library's own flags is asked of who uses it.
# The mini models, where the source tree's MODELS folder has them, are installed with their links kept, and the installed program finds its own copy.
# usage: install.sh BUILD_FOLDER EXAMPLE_SOURCE PIPELINE CC MODELS
set -eu
build=$1 example=$2 pipeline=$3 cc=$4 models=$5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cmake --install "$build" --prefix "$dir/first" >/dev/null
unit=$dir/first/lib/systemd/system/flux1.service
[ ! -e "$unit" ] || grep -q "^ExecStart=$dir/first/bin/flux1 serve " "$unit" || { echo "the unit starts another program: $(grep ^ExecStart "$unit")"; exit 1; }
# the components, of which packages are made, are all of it
for component in development library licences models mpi program; do
    cmake --install "$build" --component $component --prefix "$dir/parts" >/dev/null
done
for all in first parts; do (cd "$dir/$all" && find . ! -type d | sort) >"$dir/$all.list"; done
diff "$dir/first.list" "$dir/parts.list" || { echo "installed by components it is not the same"; exit 1; }
rm -r "$dir/parts"
mv "$dir/first" "$dir/usr"
lib=$(dirname "$(find "$dir/usr" -name libflux1.a)")
PKG_CONFIG_PATH=$lib/pkgconfig
export PKG_CONFIG_PATH
for file in bin/flux1 include/flux1.h include/flux1_tools.h share/man/man1/flux1.1 share/bash-completion/completions/flux1 share/zsh/site-functions/_flux1 \
    share/fish/vendor_completions.d/flux1.fish share/flux1/flux1_ttnn.py share/flux1/flux1_ttnn_kit.py share/flux1/flux1_ttnn_cases.py; do
    [ -s "$dir/usr/$file" ] || { echo "$file is not installed"; exit 1; }
done
# the installed program first: the examples are compared with it
"$dir/usr/bin/flux1" generate -m "$pipeline" -p "a red fox" -S 42 -o "$dir/cli.png" --quiet >/dev/null
draws() { # program
    "$dir/$1" "$pipeline" "a red fox" "$dir/$1.png" 2>/dev/null
    cmp "$dir/$1.png" "$dir/cli.png"
}

# ---- pkg-config
for flags in "$(pkg-config --cflags flux1)" "$(pkg-config --static --cflags flux1)"; do
    # shellcheck disable=SC2086
    set -- $flags
    { [ $# -eq 1 ] && [ "$(cd "${1#-I}" && pwd)" = "$dir/usr/include" ]; } || { echo "pkg-config --cflags gives more than its own folder: $flags"; exit 1; }
done
case " $(pkg-config --libs flux1) " in *" -lpng"*) echo "pkg-config --libs names libraries that only a static link needs"; exit 1 ;; esac
# shellcheck disable=SC2046
"$cc" "$example" $(pkg-config --cflags --libs flux1) -o "$dir/shared"
LD_LIBRARY_PATH=$lib draws shared
mkdir "$dir/hidden"
mv "$lib"/libflux1.so* "$dir/hidden"
# shellcheck disable=SC2046
"$cc" "$example" $(pkg-config --static --cflags --libs flux1) -o "$dir/static"
mv "$dir"/hidden/* "$lib"
draws static

# ---- CMake
cp "$example" "$dir/example.c"
cat >"$dir/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(flux1 0.1 CONFIG REQUIRED)
add_executable(cmake_shared example.c)
target_link_libraries(cmake_shared PRIVATE flux1::flux1)
add_executable(cmake_static example.c)
target_link_libraries(cmake_static PRIVATE flux1::static)
END
{ CC=$cc cmake -S "$dir" -B "$dir" -G Ninja -DCMAKE_PREFIX_PATH="$dir/usr" && ninja -C "$dir"; } >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
readelf -d "$dir/cmake_shared" | grep -q 'NEEDED.*libflux1\.so\.0' || { echo "flux1::flux1 is not the shared library"; exit 1; }
! readelf -d "$dir/cmake_static" | grep -q libflux1 || { echo "flux1::static is not the static library"; exit 1; }
draws cmake_shared
draws cmake_static

if [ ! -f "$models/mini-schnell/model_index.json" ]; then
    echo "the mini models are not in this checkout: their installation is not tested"
    exit 0
fi
installed=$dir/usr/share/flux1/models
(cd "$models" && find . -type l) >"$dir/links"
while read -r link; do
    [ "$(readlink "$installed/$link")" = "$(readlink "$models/$link")" ] || { echo "$link: a link in $models, not the same link in $installed"; exit 1; }
done <"$dir/links"
env -u FLUX1_MODEL -u FLUX1_MODELS "$dir/usr/bin/flux1" generate -p "a red fox" -S 42 -o "$dir/mini.png" >/dev/null 2>"$dir/err"
grep -q "using the mini model $installed/mini-schnell " "$dir/err" || { echo "the installed program does not use the installed model:"; cat "$dir/err"; exit 1; }
"$dir/usr/bin/flux1" generate -m "$installed/mini-dev" -p "a red fox" -S 42 -s 2 -o "$dir/dev.png" --quiet >/dev/null
