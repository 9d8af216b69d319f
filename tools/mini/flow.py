"""Joint training of the transformer and both text encoders by rectified flow: v = noise - picture at x = (1 - t) picture + t noise.

Most t is a sigmoid of a normal; four in ten lie between 0.85 and 1, where the words alone decide what goes where: with less of it a model that draws well puts the same
object twice where two were asked for. Pictures of two objects and of tints come more often than they were painted; tokens of objects weigh twice as much as background.
One caption in ten is empty, so that guidance has something to push away from; T5's padding varies, so that other text lengths look right. heads.py helps.

Abilities appear suddenly after a plateau: do not judge a run by its first quarter, but by "from the words alone", which comes long before the pictures show it."""
import torch
import torch.nn.functional as F

import data
import resume
import text as text_stage
import vae as vae_stage
from common import fit, generator, load, load_average, normal
from heads import NOTHING_SAID, Regions, Roles, Said
from models import PADDINGS, encode_text, tokenize, tokenizers, transformer, velocity

REGIONS, ROLES, SAID = 0.15, 0.15, 0.05   # weights of the heads' cross entropies


class Latents:
    """All training latents on the device, by picture size; batch(g) draws from one size, in proportion to its pictures."""

    def __init__(self, ctx):
        self.ctx, self.buckets = ctx, []
        for k, ((w, h), _) in enumerate(vae_stage.sizes(ctx)):
            d = load(ctx.path(f"latents-{w}x{h}.pt"))
            shown, told = vae_stage.regions(ctx, k, (w, h), len(d["z"])), vae_stage.objects(k, len(d["z"]))
            self.buckets.append(tuple(x.to(ctx.device) if torch.is_tensor(x) else x for x in (h // 16, w // 16, d["z"], d["clip"], d["t5"], shown, told)))
        self.kept = max(4, min(256, len(self.buckets[0][2]) // 8))   # of the first bucket, for validation
        self.weights = torch.tensor([float(len(b[2])) for b in self.buckets])
        self.picked = [(1.0 + 2 * two_objects(b[5]) + 0.6 * (b[5][..., 1] > 1).any(1)).cpu() for b in self.buckets]
        self.picked[0][-self.kept:] = 0
        self.empty = [t.to(ctx.device) for t in tokenize(tokenizers(ctx.work), [""])]

    def batch(self, g, n, dropout):
        """height, width in tokens; z, clip ids, t5 ids, regions, objects as the caption names them (NOTHING_SAID: it is empty).
        n counts 128 x 128 pictures: larger ones come fewer at a time."""
        k = int(torch.multinomial(self.weights, 1, generator=g))
        h, w, z, clip, t5, shown, told = self.buckets[k]
        n = max(2, round(n * 64 / (h * w)))
        i = torch.multinomial(self.picked[k], n, True, generator=g).to(z.device)
        j = torch.randint(0, clip.size(1), (n,), generator=g).to(z.device)
        clip, t5 = clip[i, j].long(), t5[i, j].long()
        drop = (torch.rand(n, 1, generator=g) < dropout).to(z.device)
        clip, t5 = torch.where(drop, self.empty[0], clip), torch.where(drop, self.empty[1], t5)
        longer = PADDINGS[int(torch.randint(0, len(PADDINGS), (), generator=g))] - t5.size(1)
        return h, w, z[i].float(), clip, F.pad(t5, (0, longer)), shown[i].long(), torch.where(drop, NOTHING_SAID, told[i].long())

    def validation(self):
        h, w, z, clip, t5, shown, told = self.buckets[0]
        return h, w, z[-self.kept:].float(), clip[-self.kept:, 0].long(), t5[-self.kept:, 0].long(), shown[-self.kept:].long(), told[-self.kept:].long()


def two_objects(shown):
    """[n] bool: which pictures show two different objects; shown: data.regions of them."""
    objects = shown[..., 0].int()
    return objects.amax(1) != torch.where(objects > 0, objects, 999).amin(1)


def times(n, g):
    """Where on the way from picture to noise n training pictures are taken, [n, 1, 1]."""
    common, early = torch.sigmoid(torch.randn(n, 1, 1, generator=g) * 1.2 + 0.5), 0.85 + 0.15 * torch.rand(n, 1, 1, generator=g)
    return torch.where(torch.rand(n, 1, 1, generator=g) < 0.4, early, common)


def is_matrix(k, p):
    """Muon: every matrix incl. modulations and embedders of time, text and context; not the tables, not the ends."""
    ends = k.endswith("x_embedder.weight") or k in ("dit.proj_out.weight", "proj_out.weight") or "relative_attention" in k
    return p.ndim == 2 and not ends and ("dit." in k or "blocks" in k or "embedder" in k or "layers" in k or ".block." in k or "norm_out" in k)


def build(ctx, text):
    return torch.nn.ModuleDict(dict(text=text, dit=transformer())).to(ctx.device)


def drawing(ctx, weights):
    """The model of a fit() result, without the heads that only training needs."""
    return load_average(build(ctx, text_stage.build(ctx)), {k: v for k, v in weights.items() if k.startswith(("text.", "dit."))}).eval()


def train(ctx):
    """The trained ModuleDict(text, dit)."""
    b = ctx.budget["flow"]
    if ctx.path("flow.pt").exists():
        return drawing(ctx, load(ctx.path("flow.pt")))
    start = ctx.path(resume.START)
    model = load_average(build(ctx, text_stage.build(ctx)), load(start)) if start.exists() else build(ctx, text_stage.train(ctx))
    latents = Latents(ctx)
    torch.manual_seed(3)
    for name, head in (("regions", Regions), ("roles", Roles), ("said", Said)):
        model[name] = head(model["dit"]).to(ctx.device)

    def errors(h, w, z, clip, t5, t, noise):
        """By token."""
        with ctx.autocast():
            sequence, pooled = encode_text(model["text"], clip, t5)
            v = velocity(model["dit"], (1 - t) * z + t * noise, t, sequence, pooled, h, w)
        return ((v.float() - (noise - z)) ** 2).mean(2)

    def loss_at(step):
        g = generator(3, step)
        h, w, z, clip, t5, shown, told = latents.batch(g, b["batch"], 0.1)
        t = times(len(z), g).to(z.device)
        weights = 1.0 + (shown[..., 0] > 0)
        e = (errors(h, w, z, clip, t5, t, normal(z, g)) * weights).sum() / weights.sum()
        return e + REGIONS * model["regions"].loss(shown) + ROLES * model["roles"].loss(t5, told) + SAID * model["said"].loss(told)

    def named(shown):
        """Of the objects' tokens, how many have the right object and the right tint, per cent."""
        objects = shown[..., 0] > 0
        return [(o.argmax(-1) == shown[..., k])[objects].float().mean() * 100 for k, o in enumerate(model["regions"]()[:2])]

    @torch.no_grad()
    def report():
        h, w, z, clip, t5, shown, told = latents.validation()
        n = len(z)
        t, noise = ((torch.arange(n) + 0.5) / n)[:, None, None].to(z.device), normal(z, generator(3))

        def at(i, t):
            return errors(h, w, z[i], clip[i], t5[i], t[i], noise[i]).mean(1)

        e = torch.cat([at(slice(i, i + 64), t) for i in range(0, n, 64)])
        words = f"validation {e.mean():.4f}; by quarters of t " + " ".join(f"{q.mean():.3f}" for q in e.chunk(4)) + "; from the words alone:"
        two = two_objects(shown)
        for name, some in (("one", ~two), ("two", two)):
            i = torch.nonzero(some).flatten()[:64]
            if len(i) == 0:
                continue
            at(i, torch.ones_like(t))
            words += " {} {:.1f} tint {:.1f}".format(name, *named(shown[i]))
            right = [(o.argmax(-1) == told[i, k::2]).float().mean() * 100 for k, o in enumerate(model["roles"](t5[i]))]
            words += " (roles {:.1f} {:.1f})".format(*right)
        return words

    return drawing(ctx, fit(ctx, "flow", model, loss_at, b["steps"], 0.02, 2e-3, is_matrix, report=report))
