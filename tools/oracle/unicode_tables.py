"""Writes src/text/unicode_tables.c: the sets of code points in which the oracle's Unicode versions matter, found by asking the oracle itself.

    assigned, cased, case_ignorable    Python 3.11's str and unicodedata (Unicode 14.0): what the slow CLIP tokenizer sees
    cluster_*, conjunct_*              the grapheme clusters inside tokenizers' Precompiled normalizer (Unicode 16.0). A cluster shows itself in what the
                                       nmt_nfkc character map makes of it: a mark that joins a mapped character vanishes with it, and a cluster of
                                       six bytes or more is taken character by character.
    later_letter, later_number, later_lower  what tokenizers' patterns and Lowercase know beyond Unicode 14.0 (a tokenizer.json's CLIP)

usage: unicode_tables.py tests/data/tokenizers/t5/spiece.model src/text/unicode_tables.c       (any spiece.model with nmt_nfkc; needs the oracle's Python)
"""
import sys
import unicodedata

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers

ACUTE, ZWJ, TRADEMARK, COPYRIGHT = "\u0301", "\u200d", "\u2122", "\u00a9"
KA, VIRAMA, QA = "\u0915", "\u094d", "\u0958"  # QA is mapped (to KA and a nukta) and three bytes long


def sets(normalize):
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    final = lambda s: (s + "Σ").lower()[-1] == "ς"
    joined = lambda s: normalize(s).endswith(ACUTE)  # the last mapped character and its mark are part of a longer cluster
    assert joined(COPYRIGHT + ZWJ + TRADEMARK + ACUTE) and not joined(TRADEMARK + ACUTE) and joined(KA + VIRAMA + QA + ACUTE) and not joined(QA + ACUTE)

    def extends(c):
        if len(c.encode()) <= 2:
            return normalize("\u00bd" + c) == normalize("\u00bd") and normalize(c) != ""
        return normalize("a" + ACUTE + c).startswith("a" + ACUTE)

    yield "assigned", [c for c in points if unicodedata.category(c) != "Cn"]
    yield "cased", [c for c in points if final(c)]
    yield "case_ignorable", [c for c in points if final("A" + c) and not final(c)]
    extend = [c for c in points if extends(c)]
    yield "cluster_extend", extend
    yield "cluster_spacing", [c for c in extend if not joined(COPYRIGHT + c + ZWJ + TRADEMARK + ACUTE)]
    yield "cluster_prepend", [c for c in points if normalize(c + "a" + ACUTE).endswith("a" + ACUTE)]
    yield "cluster_pictographic", [c for c in points if joined(c + ZWJ + TRADEMARK + ACUTE)]
    yield "conjunct_consonant", [c for c in points if joined(c + VIRAMA + QA + ACUTE)]
    yield "conjunct_linker", [c for c in extend if joined(KA + c + QA + ACUTE)]
    for name, kind in (("later_letter", "L"), ("later_number", "N")):
        within = normalizers.Replace(Regex(rf"\p{{{kind}}}"), "").normalize_str
        yield name, [c for c in points if unicodedata.category(c)[0] != kind and within(c) == ""]


def later_lower():
    """[character, lower case] of those that Unicode 14.0 does not have."""
    lower = normalizers.Lowercase().normalize_str
    pairs = [(c, lower(chr(c))) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and lower(chr(c)) != chr(c).lower()]
    assert all(len(x) == 1 for _, x in pairs)
    return [f"{{0x{c:x}, 0x{ord(x):x}}}," for c, x in pairs]


def wrapped(items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) > 157:
            lines.append(line)
            line = "   "
        line += " " + item
    return lines + [line, "};"]


def edges(members):
    """Code points at which membership changes, ascending: a code point is in the set when an odd number of edges lie at or below it."""
    out, previous = [], -2
    for c in map(ord, members):
        if c != previous + 1:
            if previous >= 0:
                out.append(previous + 1)
            out.append(c)
        previous = c
    return out + [previous + 1]


def main(model, target):
    proto = sentencepiece_model_pb2.ModelProto()
    with open(model, "rb") as f:
        proto.ParseFromString(f.read())
    normalize = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap).normalize_str
    lines = ["/* Made by tools/oracle/unicode_tables.py: do not edit. Each table lists the code points at which membership changes. */",
             '#include "text/unicode.h"', "", "/* clang-format off */"]
    for name, members in sets(normalize):
        numbers = edges(members)
        lines += [f"static const uint32_t {name}[] = {{", *wrapped(f"0x{n:x}," for n in numbers), f"const code_point_set unicode_{name} = {{{name}, sizeof {name} / sizeof {name}[0]}};", ""]
        print(name, len(members), "code points,", len(numbers), "edges")
    pairs = later_lower()
    lines += ["const uint32_t unicode_later_lower[][2] = {", *wrapped(pairs), f"const size_t unicode_later_lower_count = {len(pairs)};", ""]
    with open(target, "w", encoding="utf-8") as f:
        f.write("\n".join(lines[:-1]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
