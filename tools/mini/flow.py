"""Joint training of the transformer and both text encoders by rectified flow: v = noise - picture at x = (1 - t) picture + t noise.

Most t is a sigmoid of a normal; a third is from 0.85 to 1, where the words alone decide what goes where: with less of it a model that draws well puts the same object
twice where two were asked for. Pictures of two objects and of tints come more often than they are painted. One caption in ten is empty, so that guidance has something to push away from;
T5's padding varies, so that other text lengths look right. Object shapes appear suddenly after a plateau: do not judge a run by its first quarter.

Two helps, since the generator knows what it drew where (data.regions): tokens of objects weigh twice as much as background, and heads on the middle of the
transformer, thrown away afterwards, have to name each token's object, tint and place in it. The noise says little of that, so it must come from the words."""
import torch
import torch.nn.functional as F

import data
import resume
import text as text_stage
import vae as vae_stage
from common import fit, generator, load, load_average, normal
from models import PADDINGS, encode_text, tokenize, tokenizers, transformer, velocity

REGIONS = 0.15  # weight of the heads' cross entropies


class Latents:
    """All training latents on the device, by picture size; batch(g) draws from one size, in proportion to its pictures."""

    def __init__(self, ctx):
        self.ctx, self.buckets = ctx, []
        for k, ((w, h), _) in enumerate(vae_stage.sizes(ctx)):
            d = load(ctx.path(f"latents-{w}x{h}.pt"))
            shown = vae_stage.regions(ctx, k, (w, h), len(d["z"]))
            self.buckets.append((h // 16, w // 16, d["z"].to(ctx.device), d["clip"].to(ctx.device), d["t5"].to(ctx.device), shown.to(ctx.device)))
        self.kept = max(4, min(256, len(self.buckets[0][2]) // 8))   # of the first bucket, for validation
        self.weights = torch.tensor([float(len(b[2])) for b in self.buckets])
        self.picked = [1.0 + two_objects(b[5]) + 0.6 * (b[5][..., 1] > 1).any(1) for b in self.buckets]
        self.picked[0][-self.kept:] = 0
        self.empty = [t.to(ctx.device) for t in tokenize(tokenizers(ctx.work), [""])]

    def batch(self, g, n, dropout):
        """height, width in tokens; z, clip ids, t5 ids, regions. n counts 128 x 128 pictures: larger ones come fewer at a time."""
        k = int(torch.multinomial(self.weights, 1, generator=g))
        h, w, z, clip, t5, shown = self.buckets[k]
        n = max(2, round(n * 64 / (h * w)))
        i = torch.multinomial(self.picked[k].cpu(), n, True, generator=g).to(z.device)
        j = torch.randint(0, clip.size(1), (n,), generator=g).to(z.device)
        clip, t5 = clip[i, j].long(), t5[i, j].long()
        drop = (torch.rand(n, 1, generator=g) < dropout).to(z.device)
        clip, t5 = torch.where(drop, self.empty[0], clip), torch.where(drop, self.empty[1], t5)
        longer = PADDINGS[int(torch.randint(0, len(PADDINGS), (), generator=g))] - t5.size(1)
        return h, w, z[i].float(), clip, F.pad(t5, (0, longer)), shown[i].long()

    def validation(self):
        h, w, z, clip, t5, shown = self.buckets[0]
        return h, w, z[-self.kept:].float(), clip[-self.kept:, 0].long(), t5[-self.kept:, 0].long(), shown[-self.kept:].long()


def two_objects(shown):
    """[n] bool: which pictures show two different objects; shown: data.regions of them."""
    objects = shown[..., 0].int()
    return objects.amax(1) != torch.where(objects > 0, objects, 999).amin(1)


def times(n, g):
    """[n, 1, 1]"""
    common, early = torch.sigmoid(torch.randn(n, 1, 1, generator=g) * 1.2 + 0.5), 0.85 + 0.15 * torch.rand(n, 1, 1, generator=g)
    return torch.where(torch.rand(n, 1, 1, generator=g) < 0.35, early, common)


class Regions(torch.nn.Module):
    """Names what each image token shows, from the transformer's stream after its second single block."""

    def __init__(self, dit):
        super().__init__()
        self.read = torch.nn.Linear(dit.inner_dim, sum(data.REGION_HEADS.values()))
        self.seen = None
        dit.single_transformer_blocks[1].register_forward_hook(self.keep)

    def keep(self, block, inputs, outputs):
        self.seen = outputs[1]

    def forward(self):
        """Logits by head, [n, tokens, classes]; of the velocity() just computed."""
        return self.read(F.layer_norm(self.seen.float(), self.seen.shape[-1:])).split(list(data.REGION_HEADS.values()), -1)


def is_matrix(k, p):
    """Muon: every matrix incl. modulations and embedders of time, text and context; not the tables, not the ends."""
    ends = k.endswith("x_embedder.weight") or k in ("dit.proj_out.weight", "proj_out.weight") or "relative_attention" in k
    return p.ndim == 2 and not ends and ("dit." in k or "blocks" in k or "embedder" in k or "layers" in k or ".block." in k or "norm_out" in k)


def build(ctx, text):
    return torch.nn.ModuleDict(dict(text=text, dit=transformer())).to(ctx.device)


def drawing(ctx, weights):
    """The model of a fit() result, without the heads that only training needs."""
    return load_average(build(ctx, text_stage.build(ctx)), {k: v for k, v in weights.items() if not k.startswith("regions.")}).eval()


def train(ctx):
    """The trained ModuleDict(text, dit)."""
    b = ctx.budget["flow"]
    if ctx.path("flow.pt").exists():
        return drawing(ctx, load(ctx.path("flow.pt")))
    start = ctx.path(resume.START)
    model = load_average(build(ctx, text_stage.build(ctx)), load(start)) if start.exists() else build(ctx, text_stage.train(ctx))
    latents = Latents(ctx)
    torch.manual_seed(3)
    model["regions"] = Regions(model["dit"]).to(ctx.device)

    def errors(h, w, z, clip, t5, t, noise):
        """By token."""
        with ctx.autocast():
            sequence, pooled = encode_text(model["text"], clip, t5)
            v = velocity(model["dit"], (1 - t) * z + t * noise, t, sequence, pooled, h, w)
        return ((v.float() - (noise - z)) ** 2).mean(2)

    def loss_at(step):
        g = generator(3, step)
        h, w, z, clip, t5, shown = latents.batch(g, b["batch"], 0.1)
        t = times(len(z), g).to(z.device)
        weights = 1.0 + (shown[..., 0] > 0)
        e = (errors(h, w, z, clip, t5, t, normal(z, g)) * weights).sum() / weights.sum()
        return e + REGIONS * sum(F.cross_entropy(o.flatten(0, 1), shown[..., k].flatten()) for k, o in enumerate(model["regions"]()))

    def named(shown):
        """Of the objects' tokens, how many have the right object and the right tint, per cent."""
        objects = shown[..., 0] > 0
        return [(o.argmax(-1) == shown[..., k])[objects].float().mean() * 100 for k, o in enumerate(model["regions"]()[:2])]

    @torch.no_grad()
    def report():
        h, w, z, clip, t5, shown = latents.validation()
        n = len(z)
        t, noise = ((torch.arange(n) + 0.5) / n)[:, None, None].to(z.device), normal(z, generator(3))

        def at(i, t):
            return errors(h, w, z[i], clip[i], t5[i], t[i], noise[i]).mean(1)

        e = torch.cat([at(slice(i, i + 64), t) for i in range(0, n, 64)])
        words = f"validation {e.mean():.4f}; by quarters of t " + " ".join(f"{q.mean():.3f}" for q in e.chunk(4)) + "; from the words alone:"
        two = two_objects(shown)
        for name, some in (("one", ~two), ("two", two)):
            i = torch.nonzero(some).flatten()[:64]
            at(i, torch.ones_like(t))
            words += " {} {:.1f} tint {:.1f}".format(name, *named(shown[i]))
        return words

    return drawing(ctx, fit(ctx, "flow", model, loss_at, b["steps"], 0.02, 2e-3, is_matrix, report=report))
