#!/bin/sh
# flux1 tokenize: text, JSON, and lines of JSON in and out; a bad line is named.
. "$(dirname "$0")/lib.sh"

flux1 tokenize -m "$tiny" -p "a red fox"
expect_status 0 "tokenize"
grep -q '^clip (77): ' ../out || fail "77 CLIP ids: $(cat ../out)"
grep -q '^t5 (256): ' ../out || fail "256 T5 ids, as tokenizer_2 says"
flux1 tokenize -m "$tiny" -p "a red fox" --json
cp ../out ../one
[ "$("$VALUE" clip.# <../one)" = 77 ] || fail "--json has 77 CLIP ids"

printf '{"prompt": "a red fox"}\n{"prompt": ""}\n{"prompt": "\\ud83e\\udd8a \\u0438"}' >../lines
"$FLUX1" tokenize -m "$tiny" --jsonl <../lines >../out 2>../err || fail "--jsonl"
[ "$(wc -l <../out)" -eq 3 ] || fail "a line out for each line in"
head -n 1 ../out | cmp -s - ../one || fail "--jsonl agrees with --json"
"$FLUX1" tokenize -m "$tiny" --jsonl --max-sequence-length 5 <../lines 2>../err | head -n 1 >../out
[ "$("$VALUE" t5.# <../out)" = 5 ] || fail "--max-sequence-length 5"
: | "$FLUX1" tokenize -m "$tiny" --jsonl >../out 2>../err || fail "no lines are no mistake"

bad_line() { # line, what
    printf '{"prompt": "a"}\n%s\n{"prompt": "b"}' "$1" | "$FLUX1" tokenize -m "$tiny" --jsonl >../out 2>../err
    status=$?
    expect_status 1 "$2"
    [ "$(wc -l <../err)" -eq 1 ] || fail "$2: one sentence"
    grep -q 'line 2' ../err || fail "$2: the line is named"
    [ "$(sed -n 2p ../out | "$VALUE" line)" = 2 ] || fail "$2: the line is answered"
    [ "$(sed -n 3p ../out | "$VALUE" clip.#)" = 77 ] || fail "$2: the next line is tokenized"
}
bad_line '{"prompt": "cut' "JSON cut short"
bad_line '{"prompt": 3}' "a number for a prompt"
bad_line '{"text": "a"}' "no prompt"
bad_line '["a"]' "a list"
bad_line '' "an empty line"
bad_line "$(printf '{"prompt": "\377"}')" "not UTF-8"
bad_line '{"prompt": "\ud800"}' "half a surrogate pair"

refused 2 'UTF-8' tokenize -m "$tiny" -p "$(printf 'a\377')"
refused 1 'nowhere' tokenize -m nowhere -p x
finish
