#!/bin/sh
# scripts/release refuses what is no release. usage: release.sh SOURCE_FOLDER
set -eu
command -v git >/dev/null || { echo "skipped: git is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/scripts"
cp "$1/scripts/release" "$dir/scripts"
cd "$dir"
GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL
unset GIT_DIR GIT_WORK_TREE

says() { # sentence, exit status
    code=0
    scripts/release --check >out 2>&1 || code=$?
    { [ $code -eq "$2" ] && grep -q "$1" out; } || { echo "expected status $2 and \"$1\", got $code:"; cat out; exit 1; }
    rm out
}
commit() { git add -A && git commit -qm "$1"; }

says 'no git checkout' 1
git init -q .
echo 'project(flux1 VERSION 2.3.4 LANGUAGES C)' >CMakeLists.txt
printf '# Changes\n\n## 2.3.3 (2026-01-02)\n' >CHANGELOG.md
echo out >.gitignore
says 'not committed: ?? .gitignore' 1
commit one
says 'entry is "2.3.3 (2026-01-02)", not of 2.3.4' 1
printf '# Changes\n\n## 2.3.4 (unreleased)\n\n## 2.3.3 (2026-01-02)\n' >CHANGELOG.md
commit two
says 'needs a date' 1
printf '# Changes\n\n## 2.3.4 (2026-02-03)\n\n## 2.3.3 (2026-01-02)\n' >CHANGELOG.md
says 'not committed: *M CHANGELOG.md' 1
commit three
says 'flux1 2.3.4 can be released' 0
git tag v2.3.4 HEAD~1
says 'v2.3.4 is the tag of another commit' 1
git tag -f v2.3.4 HEAD >/dev/null
says 'flux1 2.3.4 can be released' 0
mkdir release
says 'is there already' 1
rmdir release
echo 'project(other)' >CMakeLists.txt
commit four
says 'no version' 1
