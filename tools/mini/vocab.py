"""Own tokenizers in the real file formats: CLIP's byte BPE (vocab.json, merges.txt) and T5's Unigram (spiece.model), from captions of data.py.

The Unigram model is written, not estimated: one piece for each word of the captions at the logarithm of its frequency, common English words below, single
characters last. Estimation on a templated corpus joins and splits words oddly. The character map (case folding) is sentencepiece's own nmt_nfkc_cf."""
import collections
import io
import json
import math
import random

import regex
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto
from transformers import CLIPTokenizer, T5TokenizerFast

import data
from common import log
from models import TEXT_LENGTH
from words import COMMON

SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")  # CLIP's words


def corpus(n):
    r = random.Random(5)
    return [data.caption(data.spec(r, True), r) for _ in range(n)]


def byte_symbols():
    """GPT-2's printable stand-in for each byte, in CLIP's order."""
    bytes_ = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {b: chr(b) for b in bytes_}
    for b in range(256):
        symbols.setdefault(b, chr(256 + b - sum(x < b for x in bytes_)))
    return symbols


def byte_pairs(counts, limit):
    """The merges of {word: count}, most frequent pair first."""
    symbol = byte_symbols()
    words = collections.Counter()
    for w, n in counts.items():
        b = [symbol[x] for x in w.encode()]
        words[tuple(b[:-1] + [b[-1] + "</w>"])] += n
    merges = []
    while len(merges) < limit:
        pairs = collections.Counter()
        for w, n in words.items():
            for p in zip(w, w[1:]):
                pairs[p] += n
        if not pairs:
            break
        best = max(pairs.items(), key=lambda x: (x[1], x[0]))[0]
        merges.append(best)
        merged = collections.Counter()
        for w, n in words.items():
            out = []
            for s in w:
                if out and (out[-1], s) == best:
                    out[-1] += s
                else:
                    out.append(s)
            merged[tuple(out)] += n
        words = merged
    return merges


def clip_tokenizer(captions, folder):
    counts = collections.Counter(w for c in captions for w in SPLIT.findall(c.lower()))
    counts.update({w: 1 for w in COMMON})
    merges = byte_pairs(counts, 2000)
    symbols = list(byte_symbols().values())
    vocabulary = list(dict.fromkeys(symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges])) + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    t = CLIPTokenizer(folder / "vocab.json", folder / "merges.txt", model_max_length=TEXT_LENGTH, pad_token="<|endoftext|>")
    t.save_pretrained(folder)
    return t


def t5_tokenizer(captions, folder):
    counts = collections.Counter(w for c in captions for w in regex.findall(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]", c.lower()))
    seed = io.BytesIO()   # a throw-away model, for its character map
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(captions[:2000]), model_writer=seed, vocab_size=120, hard_vocab_limit=False, model_type="unigram",
                                             normalization_rule_name="nmt_nfkc_cf", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    m = proto.ModelProto.FromString(seed.getvalue())
    del m.pieces[3:]   # keep <pad>, </s>, <unk>
    total, scores = sum(counts.values()), {}
    for w, n in counts.items():
        if w.isalnum():
            scores["▁" + w] = math.log(n / total)
    for w in COMMON:
        scores.setdefault("▁" + w, math.log(0.5 / total))
    for w in list(scores):   # plurals and -ing forms of known words need no path through single letters
        scores.setdefault(w[1:], scores[w] - 6) if len(w) > 4 else None
    scores["▁"] = math.log(1 / total)
    for ch in [chr(c) for c in range(33, 127) if not chr(c).isupper()]:
        scores[ch] = math.log(counts.get(ch, 0) / total + 1e-9) - (4 if ch.isalpha() else 0)
    for piece, value in sorted(scores.items(), key=lambda x: (-x[1], x[0])):
        m.pieces.add(piece=piece, score=value)
    m.trainer_spec.vocab_size = len(m.pieces)
    m.trainer_spec.ClearField("input")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(m.SerializeToString())
    t = T5TokenizerFast(str(folder / "spiece.model"), extra_ids=0, model_max_length=TEXT_LENGTH, add_prefix_space=True)   # else a prompt's first word falls to letters
    t.save_pretrained(folder)
    (folder / "tokenizer.json").unlink(missing_ok=True)   # as large as all the rest, and made again from spiece.model
    t = T5TokenizerFast.from_pretrained(folder)
    if t.tokenize("fox") != ["▁fox"]:
        raise SystemExit(f"{folder}: the reloaded T5 tokenizer cuts a prompt's first word into {t.tokenize('fox')}. Are the versions those of requirements.txt?")
    return t


def make(ctx):
    if ctx.path("tokenizers.done").exists():
        return
    captions = corpus(ctx.budget["corpus"])
    clip, t5 = clip_tokenizer(captions, ctx.path("tokenizer")), t5_tokenizer(captions, ctx.path("tokenizer_2"))
    for name, t in (("CLIP", clip), ("T5", t5)):
        longest = max(len(t(c).input_ids) for c in captions[:3000])
        log(f"{name}: {len(t)} tokens, longest caption {longest} of {TEXT_LENGTH};", " ".join(t.tokenize("A Red fox beside an armchair, flying kittens!")))
    ctx.path("tokenizers.done").touch()
