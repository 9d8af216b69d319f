"""Makes the small tokenizers of tests/data/tokenizers: the real file formats with vocabularies of a few hundred entries.

    clip       vocab.json + merges.txt + tokenizer_config.json + special_tokens_map.json. Byte symbols are those of UTF-8 text in lower case;
               "~" and "`" are left out on purpose, so that the unknown token has a case to serve.
    t5         spiece.model (with sentencepiece's real nmt_nfkc character map) + tokenizer_config.json as FLUX.1 has it: rebuilt from spiece.model.
    clip_json  tokenizer.json alone, its special tokens described by tokenizer_config.json; a pad token other than the end token.
    t5_json    tokenizer.json alone, without a character map, as transformers writes it.
    clip_later, t5_later  the two files that transformers 5.24 saves of clip and t5 (compared with its own); T5's without its character map of 320 kB.

usage: tiny_tokenizers.py tests/data/tokenizers        (deterministic; needs the oracle's Python, see README.md)
"""
import collections
import json
import os
import random
import shutil
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
import regex
import sentencepiece
from transformers import CLIPTokenizer, CLIPTokenizerFast, T5TokenizerFast

CLIP_ENTRIES, T5_PIECES, EXTRA_IDS = 500, 400, 8
SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def corpus():
    """A few thousand picture captions, and a little of other scripts."""
    pick = random.Random(3)
    words = {
        "size": "small big tall tiny huge old new".split(),
        "colour": "red green blue yellow orange purple black white brown grey".split(),
        "thing": "cat dog owl fox car house tree rocket kitten apple chair boat mountain flower bird horse robot castle".split(),
        "place": "table|background|street|river|forest|field of flowers|moon|beach in the evening|hill at night|city".split("|"),
        "style": "a photo of|a painting of|a drawing of|an oil painting of|a close-up of|the portrait of".split("|"),
        "other": "café naïve façade über größe, 猫 犬 日本語 Привет мир Ελλάδα שלום سلام नमस्ते 안녕 🙂 ½ №5 — “quoted” don't we'll it's".split(),
    }
    common = """about above across after again against almost alone along already also although always among another answer around autumn beautiful
        because become before behind believe below between bicycle bright bridge build business call carry chance change children choose clear close
        cloud colour coming complete consider corner country course cross dancing dark daughter decide deep detail different distance door dream dress
        drive early earth easy eight either empty energy engine enough evening every example exciting family famous farmer father feeling figure finger
        fire first fish follow foot foreign forget found four freedom fresh friend front fruit garden gentle glass gold golden government great ground
        group guess hair half hand happen happy hard head hear heart heavy help high history hold holiday hope hospital hotel hour hundred hurry idea
        important inside instead interest island journey jump keep kitchen know lake language large later laugh lead learn leave letter light listen
        little long look love machine make market matter measure member middle milk minute mirror modern money month morning mother mouth music name
        nation nature never next night noise north nothing number ocean office often open order other outside paper party peace people perhaps person
        picture piece place plain plane plant play please point power present pretty price problem promise quarter question quick quiet rain reach
        ready reason remember river road rock round sail school science sea season second seven shadow shape ship shoulder silent silver simple sister
        sleep smile snow soft soldier something song sound south space speak spring square stand star station stone storm story strange summer sun
        supper surprise sweet swim taste teacher thick thing think thousand through ticket together tomorrow train travel trouble under understand
        usual valley village visit voice walk wall warm watch water weather week welcome west wheel while whisper wind window winter wonder world
        write yellow yesterday young""".split()
    lines = []
    for _ in range(4000):
        w = {k: pick.choice(v) for k, v in words.items()}
        lines.append(pick.choice([
            "{style} a {size} {colour} {thing} on the {colour} {place}",
            "two {colour} {thing}s near a {place}, highly detailed, 4k",
            "A {thing} holding a sign that says \"{other}\"",
            "{thing} and {thing}, {other}",
            " ".join(pick.choice(common) for _ in range(6)),
        ]).format(**w))
    return lines


def byte_symbols():
    """GPT-2's map of bytes to printable characters, which CLIP's files use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {b: chr(b) for b in printable}, 256
    for b in range(256):
        if b not in table:
            table[b], spare = chr(spare), spare + 1
    return table


def clip_merges(lines, symbols, count):
    """Byte pair merges by plain counting; ties go to the greater pair, so the result depends on nothing else."""
    words = collections.Counter(w for line in lines for w in SPLIT.findall(line.lower()))
    split = {}
    for word, n in words.items():
        s = [symbols[b] for b in word.encode()]
        split[tuple(s[:-1] + [s[-1] + "</w>"])] = n
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for s, n in split.items():
            for p in zip(s, s[1:]):
                pairs[p] += n
        best = max(pairs.items(), key=lambda x: (x[1], x[0]))[0]
        merges.append(best)
        merged = {}
        for s, n in split.items():
            out, i = [], 0
            while i < len(s):
                if s[i:i + 2] == best:
                    out.append(s[i] + s[i + 1])
                    i += 2
                else:
                    out.append(s[i])
                    i += 1
            merged[tuple(out)] = n
        split = merged
    return merges


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)
        f.write("\n")


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def make_clip(folder, lines):
    fresh(folder)
    symbols = byte_symbols()
    ascii_lower = [b for b in range(33, 127) if not 65 <= b <= 90 and b not in b"~`"]
    continuation, lead = [*range(0x80, 0xC0)], [*range(0xC2, 0xF5)]
    entries = [symbols[b] for b in ascii_lower + continuation + lead] + [symbols[b] + "</w>" for b in ascii_lower + continuation]
    merges = clip_merges(lines, symbols, CLIP_ENTRIES - 2 - len(entries))
    entries += [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(entries)) == len(entries) == CLIP_ENTRIES
    write_json(folder + "/vocab.json", {t: i for i, t in enumerate(entries)})
    with open(folder + "/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    with tempfile.TemporaryDirectory() as t:
        CLIPTokenizer(folder + "/vocab.json", folder + "/merges.txt", model_max_length=77, pad_token="<|endoftext|>").save_pretrained(t)
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            shutil.copyfile(f"{t}/{name}", f"{folder}/{name}")


def make_clip_json(folder, clip):
    """As a fast tokenizer saves itself, and nothing else."""
    fresh(folder)
    with tempfile.TemporaryDirectory() as t:
        CLIPTokenizerFast(clip + "/vocab.json", clip + "/merges.txt", model_max_length=40, pad_token="!").save_pretrained(t)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(f"{t}/{name}", f"{folder}/{name}")


def train_unigram(lines, work, rule, **more):
    with open(work + "/corpus.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    home = os.getcwd()
    os.chdir(work)  # the model records these paths
    sentencepiece.SentencePieceTrainer.train(
        input="corpus.txt", model_prefix="spiece", vocab_size=T5_PIECES, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        normalization_rule_name=rule, character_coverage=1.0, num_threads=1, minloglevel=2, **more)
    os.chdir(home)
    return work + "/spiece.model"


def t5_config(**more):
    return {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": EXTRA_IDS, "tokenizer_class": "T5Tokenizer", **more}


def make_t5(folder, lines):
    fresh(folder)
    with tempfile.TemporaryDirectory() as work:
        shutil.copyfile(train_unigram(lines, work, "nmt_nfkc"), folder + "/spiece.model")
    names = ["<pad>", "</s>", "<unk>"] + [f"<extra_id_{i}>" for i in range(EXTRA_IDS - 1, -1, -1)]
    ids = [0, 1, 2, *range(T5_PIECES, T5_PIECES + EXTRA_IDS)]
    decoder = {str(i): {"content": n, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for i, n in zip(ids, names)}
    write_json(folder + "/tokenizer_config.json", t5_config(
        add_prefix_space=True, legacy=True, model_max_length=512, added_tokens_decoder=decoder,
        additional_special_tokens=[f"<extra_id_{i}>" for i in range(EXTRA_IDS)], clean_up_tokenization_spaces=True, sp_model_kwargs={}))


def make_t5_json(folder, lines):
    fresh(folder)
    with tempfile.TemporaryDirectory() as work:
        model = train_unigram(lines, work, "identity", add_dummy_prefix=True)
        T5TokenizerFast(model, extra_ids=EXTRA_IDS, model_max_length=256, legacy=False).save_pretrained(work + "/saved")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(f"{work}/saved/{name}", f"{folder}/{name}")


def save_later(folder, tokenizer, **config):
    """tokenizer.json and tokenizer_config.json, which no longer lists the added tokens, in transformers 5's form."""
    fresh(folder)
    write_json(folder + "/tokenizer.json", tokenizer)
    write_json(folder + "/tokenizer_config.json", {"backend": "tokenizers", "is_local": True, **config})


def make_later(folder, folder_2, clip, t5):
    literals = "<\\|startoftext\\|>|<\\|endoftext\\|>|"
    saved = json.loads(CLIPTokenizerFast(clip + "/vocab.json", clip + "/merges.txt", pad_token="<|endoftext|>").backend_tokenizer.to_str())
    pattern = saved["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = literals + pattern["Regex"]
    saved["added_tokens"][1]["normalized"] = False  # <|endoftext|>, as in FLUX.1's folder
    save_later(folder, saved, bos_token="<|startoftext|>", clean_up_tokenization_spaces=False, eos_token="<|endoftext|>", errors="replace",
               model_max_length=77, pad_token="<|endoftext|>", tokenizer_class="CLIPTokenizer", unk_token="<|endoftext|>")
    saved = json.loads(T5TokenizerFast.from_pretrained(t5).backend_tokenizer.to_str())
    saved["normalizer"] = None
    saved["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}]}
    save_later(folder_2, saved, **t5_config(add_prefix_space=True, legacy=True, model_max_length=512, extra_special_tokens=[f"<extra_id_{i}>" for i in range(EXTRA_IDS)]))


def main(out):
    lines = corpus()
    make_clip(out + "/clip", lines)
    make_t5(out + "/t5", lines)
    make_clip_json(out + "/clip_json", out + "/clip")
    make_t5_json(out + "/t5_json", lines)
    make_later(out + "/clip_later", out + "/t5_later", out + "/clip", out + "/t5")
    for folder, kind in (("clip", CLIPTokenizer), ("clip_json", CLIPTokenizerFast), ("t5", T5TokenizerFast), ("t5_json", T5TokenizerFast)):
        tokenizer = kind.from_pretrained(f"{out}/{folder}")
        print(folder, len(tokenizer), tokenizer("A photo of a café, 🙂 don't <extra_id_0>").input_ids)


if __name__ == "__main__":
    main(sys.argv[1])
