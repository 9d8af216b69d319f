"""Makes tests/data/tokens: a few thousand prompts over all of Unicode and the ids that the oracle's tokenizers give them.

usage: tokens.py SHARED_DATA        (deterministic; SHARED_DATA has tokenizers/ and mini-trial/; the small tokenizers must have been made)

Files, little-endian:
    prompts.bin  u32 count; then per prompt u32 bytes, the bytes
    CASE.bin     u32 length, u32 vocabulary (ids known to the tokenizer), u32 pad id, u32 count; then for the first `count` prompts
                 u16 ids before padding (bit 15: the prompt was cut), those ids as u16
"""
import environment
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import unicodedata

import transformers
from transformers import CLIPTokenizer, CLIPTokenizerFast, PreTrainedTokenizerFast, T5TokenizerFast

OUT = environment.TEST_DATA + "/tokens"
SMALL = environment.TEST_DATA + "/tokenizers"
COUNT = 2400

VECTORS = """|a photo of a cat|a photo of an astronaut riding a horse on mars|Hello, World! 123|A long paragraph for summarization.|Summary of the text.
Hey how are you doing|The quick brown fox jumps over the lazy dog.|A cat holding a sign that says hello world|🙂 café 猫|猫猫 犬|É İ ẞ ΑΣ|don't WE'LL 'S|½ ² 3.14
x<|endoftext|>y|<|startoftext|>|<|STARTOFTEXT|> <|EndOfText|>|<extra_id_0> foo</s>bar|<pad><unk></s><extra_id_99><extra_id_100>|  a  b |<|~|`~|!a! !|▁a ▁▁ b ▁
ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ.Β ΑΣ᾽ Σ̈Σ|İstanbul IĞDIR ıſK Å|ŉǰΐŰﬃſt""".replace("\n", "|").split("|")
ESCAPED = ["a\u200db \0c\x07\td", "cafe\u0301", "e\u0302\u0301", "\u1ebf", "\ufb01\u0301", "\ufb01 ½ \uff21 \u2122", "\uff1cpad\uff1e \uff1c/s\uff1e", "'\u017f <|\u017ftartoftext|>", "\u0345a\u0345 \u03b9\u0345",
           "\u304b\u3099 \u30cf\u309a", "\u1100\u1161\u11a8 \uac00\u11a8", "\u0600a\u0301", "\u00a9\u200d\u2122\u0301", "\u0915\u094d\u0958\u0301", "\r\n\r \n\t\v\f\x85\u2028\u2029", "\u00a0\u3000\u2003 x \u3000", "\ufeffx\u00ad\u200b\u2060",
           "\ue000\U000f0000\U0010ffff\ufffe\ufffd", "\U0001f9cc\U0001fae8\U0001f6dc", "\U0001f1e9\U0001f1ea\U0001f1ea", "\U0001f469\U0001f3fd\u200d\U0001f680", "\ufdfa\ufdfb\u337f\u33ff", "\u0340\u0341\u0343\u0344\u0374\u037e\u0387\u1fef\u2126\u212a\u212b"]
PHRASES = """a photograph of|an oil painting of|cinematic, 35mm, f/1.8|a red car on a yellow background|two owls at night|a rocket in space|highly detailed|8K UHD|by Vermeer|trending on (ArtStation:1.3)
«une tasse de café»|eine schöne Straße|el niño come piñatas|žluťoučký kůň|Съешь ещё этих мягких булок|Ελληνικός καφές|日本の城と桜|山水画，远处有雾|한국의 가을 풍경|ภาพวาดของแมว|एक लाल कार|לחתול יש כובע
قطة على السطح|ქართული ანბანი|հայերեն|አማርኛ|ភាសាខ្មែរ|မြန်မာစာ|বাংলা ভাষা|தமிழ்|తెలుగు|😀😃 🎨🖼️|👨‍👩‍👧‍👦 🏳️‍🌈|№ 5 — “quoted” … ‘x’|x²+y²=z²|①②③ Ⅷ ㍿ ﷺ|ﬁne ﬂow|ＦＵＬＬ width|tab\there|line\nbreak|don't we've I'm they'll|3.14 1,000 2024""".replace("\n", "|").split("|")
SPECIAL = "<|startoftext|> <|endoftext|> <|EndOfText|> </s> <pad> <unk> <extra_id_0> <extra_id_3> <extra_id_07> <extra_id_ 's 'LL ▁ </w> ! < | > ~".split() + [" ", "  ", "\n", "\t", "\0", "\u200d", "\ufe0f", "\u0345"]
MARKS = "\u0301\u0300\u0302\u0308\u030a\u0327\u0323\u0328\u0345\u093c\u094d\u200d\ufe0f\u3099\u309a\u0903"
BASES = "aeioucnsAEIOUCNS½ªµ²ﬁ™℡①㍿ｶﾞﾊﾟかは가각\u1100\u1161\u0915\u0958\u0600©®☺ΑΣσ"


def prompts():
    pick = random.Random(20240801)
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    by_category = {}
    for c in points:
        by_category.setdefault(unicodedata.category(c), []).append(c)
    categories = sorted(by_category)
    blocks = [range(b, b + 0x80) for b in range(0, 0x20000, 0x80) if not 0xD800 <= b < 0xE000 and any(unicodedata.category(chr(c)) != "Cn" for c in range(b, b + 0x80))]
    out = VECTORS + ESCAPED + PHRASES
    out += ["".join(f"{p} " for p in PHRASES), " ".join(["very"] * 600) + " long", "word" * 700, "猫" * 300, "👍" * 200, "!" * 400, " " * 500 + "end", "e\u0301" * 200]
    out += ["".join(chr(c) + " " for c in block[:64]) for block in blocks]  # every script, every block
    while len(out) < COUNT:
        kind, n = pick.randrange(6), pick.choice([1, 2, 4, 8, 16, 24])
        if kind == 0:
            out.append(pick.choice([" ", ", ", "  "]).join(pick.choice(PHRASES) for _ in range(1 + n // 6)))
        elif kind == 1:
            out.append("".join(pick.choice(by_category[pick.choice(categories)]) for _ in range(n)))
        elif kind == 2:
            out.append("".join(pick.choice(BASES) + "".join(pick.choice(MARKS) for _ in range(pick.randrange(3))) for _ in range(n)))
        elif kind == 3:
            out.append("".join(pick.choice([pick.choice(SPECIAL), pick.choice("abc XYZ.,1'")]) for _ in range(n)))
        elif kind == 4:
            out.append("".join(chr(pick.randrange(0x20, 0x500)) for _ in range(n)))
        else:
            block = pick.choice(blocks)
            out.append("".join(chr(pick.choice(block)) for _ in range(n)))
    return out


def write_prompts(texts):
    with open(OUT + "/prompts.bin", "wb") as f:
        f.write(struct.pack("<I", len(texts)))
        for text in texts:
            f.write(struct.pack("<I", len(text.encode())) + text.encode())


def write_case(name, tokenizer, length, texts):
    cut = tokenizer(texts, truncation=True, max_length=length).input_ids
    whole = tokenizer(texts).input_ids
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    with open(f"{OUT}/{name}.bin", "wb") as f:
        f.write(struct.pack("<4I", length, vocabulary, tokenizer.pad_token_id, len(texts)))
        for a, b in zip(cut, whole):
            f.write(struct.pack(f"<{1 + len(a)}H", len(a) | (len(b) > length) << 15, *a))
    print(name, length, vocabulary, len(texts), os.path.getsize(f"{OUT}/{name}.bin"), "bytes")


def t5(files, **config):
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            shutil.copy(path, folder)
        if config:
            with open(folder + "/tokenizer_config.json", "w") as f:
                json.dump(config, f)
        return T5TokenizerFast.from_pretrained(folder)


def later(name, pad):
    """transformers 4.57 stumbles over the tokenizer_config.json of transformers 5, not over its tokenizer.json."""
    return PreTrainedTokenizerFast(tokenizer_file=f"{SMALL}/{name}/tokenizer.json", pad_token=pad)


def main(shared):
    os.makedirs(OUT, exist_ok=True)
    texts = prompts()
    write_prompts(texts)
    clip, real, mini = shared + "/tokenizers/clip", shared + "/tokenizers/t5", shared + "/mini-trial"
    write_case("clip_real", CLIPTokenizer(clip + "/vocab.json", clip + "/merges.txt"), 77, texts)
    write_case("clip_mini", CLIPTokenizer.from_pretrained(mini + "/tokenizer"), 32, texts[:1200])
    write_case("clip", CLIPTokenizer.from_pretrained(SMALL + "/clip"), 77, texts[:1200])
    write_case("clip_json", CLIPTokenizerFast.from_pretrained(SMALL + "/clip_json"), 40, texts[:1200])
    write_case("clip_later", later("clip_later", "<|endoftext|>"), 24, texts[:1200])
    write_case("t5_real", t5([real + "/spiece.model"], add_prefix_space=True, legacy=True, extra_ids=100, model_max_length=512), 77, texts)
    write_case("t5_real_json", t5([real + "/tokenizer.json"]), 40, texts[:1200])
    write_case("t5_mini", T5TokenizerFast.from_pretrained(mini + "/tokenizer_2"), 32, texts[:1200])
    write_case("t5", T5TokenizerFast.from_pretrained(SMALL + "/t5"), 128, texts[:1200])
    write_case("t5_later", later("t5_later", "<pad>"), 32, texts[:1200])
    write_case("t5_json", T5TokenizerFast.from_pretrained(SMALL + "/t5_json"), 24, texts[:1200])
    with open(OUT + "/oracle.json", "w") as f:
        import sentencepiece, tokenizers
        json.dump({"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__,
                   "python": sys.version.split()[0], "unicodedata": unicodedata.unidata_version}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
