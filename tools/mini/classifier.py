"""The judge: a small convolutional network that has seen real renders only, never a generated picture.

Its answers keep place (8 x 8 maps are flattened, not averaged away), since objects stand in a few known places; it is trained with shifts, blur, noise and
contrast so that a picture's softness alone does not mislead it. Held-out pairs are in its training: the judge must know what the painter has not seen."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import data
from common import Pictures, batches, fit, generator, load, load_average, normal, steps_done, to_float

COUNTS = [len(v) for v in data.HEADS.values()]
FIRST_SEED = 2 * 10**9


class Judge(nn.Module):
    def __init__(self, channels=(32, 64, 128, 160)):
        super().__init__()

        def conv(a, b, stride):
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(8, b), nn.ReLU())

        c = channels
        self.features = nn.Sequential(nn.Conv2d(3, c[0], 4, 4), nn.GroupNorm(8, c[0]), nn.ReLU(), conv(c[0], c[1], 1), conv(c[1], c[1], 1), conv(c[1], c[2], 2), conv(c[2], c[2], 1),
                                      conv(c[2], c[3], 2), conv(c[3], c[3], 1))
        self.squeeze = nn.Conv2d(c[3], 48, 1)
        self.mix = nn.Sequential(nn.Linear(48 * 64 + 2 * c[3], 384), nn.ReLU())
        self.heads = nn.Linear(384, sum(COUNTS))

    def forward(self, x):
        """[n, 3, 128, 128] in [-1, 1] -> six tensors of logits, in the order of data.HEADS."""
        f = self.features(x)
        g = torch.cat([self.squeeze(f).relu().flatten(1), f.mean((2, 3)), f.amax((2, 3))], 1)
        return self.heads(F.dropout(self.mix(g), 0.1, self.training)).split(COUNTS, 1)


def disturb(x, g):
    """Shift by up to 3 px, sometimes blur, noise and contrast."""
    n = x.size(0)
    dy, dx = torch.randint(-3, 4, (2,), generator=g).tolist()
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")[:, :, 3 + dy:131 + dy, 3 + dx:131 + dx]
    if torch.rand((), generator=g) < 0.4:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    amount = (0.08 * torch.rand(n, 1, 1, 1, generator=g)).to(x.device)
    gain = (0.9 + 0.2 * torch.rand(n, 1, 1, 1, generator=g)).to(x.device)
    return x * gain + amount * normal(x, g)


def train(ctx):
    b = ctx.budget["judge"]
    torch.manual_seed(5)
    net = Judge().to(ctx.device, memory_format=torch.channels_last)
    path = ctx.path("judge.pt")
    if not path.exists():
        done = steps_done(ctx, "judge")
        source = batches(ctx, Pictures(FIRST_SEED + done * b["batch"], (b["steps"] - done) * b["batch"], allow_held=True), b["batch"])

        def loss_at(step):
            torch.manual_seed(step)   # dropout, the same after a resume
            x, y = next(source)
            x, y = disturb(to_float(ctx, x), generator(5, step)), y.to(ctx.device)
            with ctx.autocast():
                out = net(x)
            return sum(F.cross_entropy(o.float(), y[:, i]) for i, o in enumerate(out))

        fit(ctx, "judge", net, loss_at, b["steps"], 0.02, 2e-3, lambda k, p: "heads" not in k and k != "features.0.weight", ema=0.99)
    return load_average(net, load(path)).eval()


@torch.no_grad()
def answers(ctx, net, images):
    """images: [n, 128, 128, 3] uint8 -> [n, 6] class numbers."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    return torch.cat([torch.stack([o.argmax(1) for o in net(to_float(ctx, part))], 1).cpu() for part in x.split(64)])


ROWS = ("single object", "two objects", "tint", "background", "layout and count")


def score(found, specs):
    """{row: (right, asked)} of ROWS. Two objects count when both are there, in whatever order; a tint where the caption names one, by place;
    the background where the caption names one."""
    table = {row: [0, 0] for row in ROWS}

    def tell(row, right):
        table[row][0] += bool(right)
        table[row][1] += 1

    for a, s in zip(found.tolist(), specs):
        y = data.labels(s)
        if s["kind"] == "two":
            tell("two objects", {data.HEADS["object1"][a[0]], data.HEADS["object2"][a[2]]} == {n for n, _ in s["objects"]})
        else:
            tell("single object", a[0] == y[0])
        for i in (1, 3):
            if y[i]:
                tell("tint", a[i] == y[i])
        if s["background"] != data.PASTEL:
            tell("background", a[4] == y[4])
        tell("layout and count", a[5] == y[5])
    return {row: tuple(v) for row, v in table.items()}
