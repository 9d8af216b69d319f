#!/bin/bash
# The Debian packages in a bare root: they install with what they depend on and nothing else, the program draws with the mini model what the build draws, a program
# compiles and runs with the library, all are removed, and nothing is left over.
# usage: root.sh BUILD_FOLDER SOURCE_FOLDER CC       environment: MIRROR (http://deb.debian.org/debian)
# exit 77: not root, no debootstrap, or the mirror is out of reach
set -eu
build=$1 source=$2 cc=$3
. /etc/os-release
mirror=${MIRROR:-http://deb.debian.org/debian}
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" -eq 0 ] || skip "not root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
dir=$(mktemp -d)
root=$dir/root
mounted=
finish() {
    for folder in $mounted; do umount "$root$folder" || true; done
    rm -rf --one-file-system "$dir"
}
trap finish EXIT
fail() { echo "$*"; exit 1; }

cmake --build "$build" -t package >"$dir/log" 2>&1 || { cat "$dir/log"; fail "no packages were made"; }
mapfile -t packages < <(sed -n 's/^CPack: - package: \(.*\.deb\) generated\.$/\1/p' "$dir/log")
[ ${#packages[@]} -ge 3 ] || fail "${#packages[@]} packages"
names=()
for package in "${packages[@]}"; do names+=("$(dpkg-deb -f "$package" Package)"); done
echo "packages: ${names[*]}"
if command -v lintian >/dev/null; then
    lintian --fail-on error --tag-display-limit 0 "${packages[@]}" || fail "lintian finds errors"
else
    echo "note: lintian is not installed"
fi

debootstrap --variant=minbase "$VERSION_CODENAME" "$root" "$mirror" >"$dir/log" 2>&1 || { tail -n 5 "$dir/log"; skip "debootstrap cannot make a root from $mirror"; }
cp /etc/resolv.conf "$root/etc/" 2>/dev/null || true
for folder in /proc /dev; do
    mount --bind $folder "$root$folder" 2>/dev/null && mounted="$mounted $folder" || echo "note: $folder cannot be mounted"
done
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
state() { # every file with its contents' checksum, but what apt and dpkg write about their work, and the linker's cache
    (cd "$root" && find . -xdev \( -path ./var/log -o -path ./var/cache -o -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./proc -o -path ./dev -o -path ./tmp \) -prune \
        -o -type f ! -path ./etc/ld.so.cache -printf '%p %m ' -exec sha256sum {} \; -o -type l -printf '%p -> %l\n' -o -printf '%p %m\n') | sort
    inside dpkg-query -W -f '${Package} ${Status}\n'
}
inside apt-get update -q >"$dir/log" 2>&1 || { tail -n 5 "$dir/log"; skip "apt cannot reach its mirror in the root"; }
# what the packages need is part of the root, so that only they come and go
depends() { dpkg-deb -f "$1" Depends | tr ',|' '\n\n' | sed 's/ *\([^ (]*\).*/\1/' | grep -vxF "$(printf '%s\n' "${names[@]}")" || true; }
needs=$(for package in "${packages[@]}"; do depends "$package"; done | sort -u)
# shellcheck disable=SC2086
inside apt-get install -qy --no-install-recommends $needs >"$dir/log" 2>&1 || { tail -n 20 "$dir/log"; fail "the root has no packages $needs"; }
state >"$dir/before"

cp "${packages[@]}" "$root/tmp"
inside sh -c 'apt-get install -qy --no-install-recommends /tmp/*.deb' >"$dir/log" 2>&1 || { tail -n 20 "$dir/log"; fail "the packages do not install"; }
rm "$root"/tmp/*.deb
inside dpkg --verify "${names[@]}" || fail "installed files are not the packages'"
unit=$root/usr/lib/systemd/system/flux1.service
[ -e "$unit" ] || [ ! -e "$build/flux1.service" ] || fail "flux1.service is in no package"
[ ! -e "$unit" ] || inside test -x "$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$unit")" || fail "flux1.service starts what is not installed"
for name in "${names[@]}"; do
    for file in copyright changelog.Debian.gz; do [ -s "$root/usr/share/doc/$name/$file" ] || fail "/usr/share/doc/$name/$file is missing"; done
done

# ---- the program
[ -s "$root/usr/share/man/man1/flux1.1.gz" ] || fail "no man page"
request=(-p "a red fox" -S 42 -s 2 --quiet)
inside flux1 generate "${request[@]}" -o /tmp/fox.png >"$dir/log" 2>&1 || { cat "$dir/log"; fail "the installed program makes no picture"; }
env -u FLUX1_MODELS "$build/flux1" generate -m "$source/models/mini-schnell" "${request[@]}" -o "$dir/fox.png" >/dev/null
cmp "$root/tmp/fox.png" "$dir/fox.png"
inside flux1 generate -p a -s 0 2>/dev/null && fail "wrong usage is not noticed"

# ---- the library
libraries=$(dirname "$(find "$root/usr/lib" -name libflux1.so)")
export PKG_CONFIG_PATH="$libraries/pkgconfig"
# shellcheck disable=SC2046
"$cc" "$source/examples/generate.c" $(pkg-config --cflags --libs flux1) -o "$root/tmp/example"
inside /tmp/example /usr/share/flux1/models/mini-schnell "a red fox" /tmp/library.png 2>/dev/null
inside flux1 generate -p "a red fox" -S 42 --quiet -o /tmp/program.png >/dev/null
cmp "$root/tmp/library.png" "$root/tmp/program.png"

# ---- and away
rm -f "$root"/tmp/*
inside apt-get purge -qy "${names[@]}" >"$dir/log" 2>&1 || { tail -n 20 "$dir/log"; fail "the packages cannot be removed"; }
state >"$dir/after"
diff "$dir/before" "$dir/after" || fail "the root is not what it was"
echo "installed, ran and removed: ${names[*]}"
