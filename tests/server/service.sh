#!/bin/sh
# The systemd unit, by systemd's own judgement. usage: service.sh flux1.service.in FLUX1
command -v systemd-analyze >/dev/null || { echo "skipped: no systemd-analyze"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
grep -q '^ExecStart=@program@ serve ' "$1" || { echo "FAILED: the unit starts no flux1 serve"; exit 1; }
# where the program lies now; the man page need not be installed
sed "s|@program@|$2|; /^Documentation=/d" "$1" >"$dir/flux1.service"
said=$(systemd-analyze verify "$dir/flux1.service" 2>&1) && [ -z "$said" ] || { echo "FAILED: systemd-analyze verify: $said"; exit 1; }
# exposure of at most 1.5 of 10 ("OK"), as what the service may still do
systemd-analyze security --offline=true --threshold=15 "$dir/flux1.service" >"$dir/security" 2>&1 || { echo "FAILED: systemd-analyze security"; tail -1 "$dir/security"; exit 1; }
tail -1 "$dir/security"
