"""Pretraining of the text encoders on captions alone: tell the description (data.HEADS) from CLIP's pooled vector and, separately, from T5's tokens.

Without it, joint training learnt scenes and colours and no objects at all. The classifiers are thrown away; the encoders go on learning with the transformer."""
import random

import torch
import torch.nn.functional as F

import data
from common import fit, generator, load, load_average, log
from models import CLIP_WIDTH, PADDINGS, T5_WIDTH, encode_text, text_encoders, tokenize, tokenizers

COUNTS = [len(v) for v in data.HEADS.values()]
FIRST_SEED = 6 * 10**8


class Reader(torch.nn.Module):
    def __init__(self, text):
        super().__init__()
        self.text = text
        self.from_clip = torch.nn.Linear(CLIP_WIDTH, sum(COUNTS))
        self.from_t5 = torch.nn.Linear(T5_WIDTH, sum(COUNTS))
        self.weigh = torch.nn.Linear(T5_WIDTH, 1)

    def forward(self, clip_ids, t5_ids):
        """Logits per head, from CLIP and from T5 (tokens averaged with learnt weights, pads left out)."""
        sequence, pooled = encode_text(self.text, clip_ids, t5_ids)
        weights = self.weigh(sequence).masked_fill((t5_ids == 0)[..., None], -1e4).softmax(1)
        return self.from_clip(pooled).split(COUNTS, 1), self.from_t5((weights * sequence).sum(1)).split(COUNTS, 1)


def build(ctx):
    clip, t5 = tokenizers(ctx.work)
    return text_encoders(len(clip), len(t5))


def train(ctx):
    b = ctx.budget["text"]
    torch.manual_seed(2)
    reader = Reader(build(ctx)).to(ctx.device)
    if ctx.path("text.pt").exists():
        return load_average(reader, load(ctx.path("text.pt"))).text
    toks = tokenizers(ctx.work)
    specs = [data.spec(random.Random(FIRST_SEED + i)) for i in range(b["captions"])]
    clip, t5 = tokenize(toks, [data.captions(s, FIRST_SEED + i, 1)[0] for i, s in enumerate(specs)])
    clip, t5, y = clip.to(ctx.device), t5.to(ctx.device), torch.tensor([data.labels(s) for s in specs], device=ctx.device)
    kept = max(8, min(1000, len(y) // 10))   # the last ones, to report on

    def loss_at(step):
        g = generator(2, step)
        i = torch.randint(0, len(y) - kept, (b["batch"],), generator=g).to(ctx.device)
        longer = PADDINGS[int(torch.randint(0, len(PADDINGS), (), generator=g))] - t5.size(1)
        return sum(F.cross_entropy(o, y[i, k]) for out in reader(clip[i], F.pad(t5[i], (0, longer))) for k, o in enumerate(out))

    @torch.no_grad()
    def report():
        pairs = zip(("CLIP", "T5"), reader(clip[-kept:], t5[-kept:]))
        return "; ".join(f"{name} right " + " ".join(f"{(o.argmax(1) == y[-kept:, k]).float().mean() * 100:.1f}" for k, o in enumerate(out)) for name, out in pairs)

    def is_matrix(k, p):
        return p.ndim == 2 and k.startswith("text.") and ("layers" in k or ".block." in k) and "relative_attention" not in k

    log("text: heads", " ".join(data.HEADS))
    return load_average(reader, fit(ctx, "text", reader, loss_at, b["steps"], 0.02, 6e-3, is_matrix, ema=0.99, warmup=30, report=report)).text
