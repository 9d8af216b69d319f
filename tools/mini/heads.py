"""Heads that only the flow's training has, thrown away afterwards. The generator knows what it drew where and in which order the caption's objects stand; the velocity's
error says that late and softly, these say it at once. What each was made for (README.md): Regions, objects that took shape late; Said and Roles, the same object twice
where two were asked for."""
import torch
import torch.nn.functional as F

import data
from models import CLIP_WIDTH

CLASSES = 1 + len(data.NAMES), 1 + len(data.TINTS)   # of an object and of its tint; 0: none
NOTHING_SAID = -100


def mean_error(logits, told):
    """Cross entropy over the rows of which something was said; logits [n, classes]."""
    return F.cross_entropy(logits, told, ignore_index=NOTHING_SAID, reduction="sum") / (told != NOTHING_SAID).sum().clamp(min=1)


def normed(x):
    return F.layer_norm(x.float(), x.shape[-1:])


class Regions(torch.nn.Module):
    """Names what each image token shows (data.regions), from the transformer's stream after its second single block. Where the noise says little it must come from the
    words."""

    def __init__(self, dit):
        super().__init__()
        self.read = torch.nn.Linear(dit.inner_dim, sum(data.REGION_HEADS.values()))
        dit.single_transformer_blocks[1].register_forward_hook(self.keep)

    def keep(self, block, inputs, outputs):
        self.seen = outputs[1]

    def forward(self):
        """Logits by head, [n, tokens, classes]; of the velocity() just computed."""
        return self.read(normed(self.seen)).split(list(data.REGION_HEADS.values()), -1)

    def loss(self, shown):
        return sum(F.cross_entropy(o.flatten(0, 1), shown[..., k].flatten()) for k, o in enumerate(self()))


class Said(torch.nn.Module):
    """Reads object, tint, object, tint in picture order from CLIP's pooled vector, where the text stage had put them: without this CLIP forgot which object was the first
    before the transformer had learnt to look for it."""

    def __init__(self, dit):
        super().__init__()
        self.read = torch.nn.Linear(CLIP_WIDTH, 2 * sum(CLASSES))
        dit.time_text_embed.text_embedder.register_forward_hook(self.keep)

    def keep(self, block, inputs, outputs):
        self.seen = inputs[0]

    def loss(self, told):
        """told: [n, 4], NOTHING_SAID for an empty caption."""
        return sum(mean_error(o, told[:, k]) for k, o in enumerate(self.read(self.seen.float()).split(CLASSES * 2, 1)))


class Roles(torch.nn.Module):
    """Reads the first and the second object, and their tints, from the prompt's tokens behind the first block: one key for each of the two, one reading for both. So a
    token comes to say in one direction which of the two it belongs to, which is what attention needs to send each to its place. T5's own tokens did not learn to tell it
    (they stayed at chance for 1,900 steps); CLIP's pooled vector does, and the block's modulation brings it to the tokens."""

    def __init__(self, dit):
        super().__init__()
        self.key = torch.nn.Linear(dit.inner_dim, 2)
        self.object, self.tint = (torch.nn.Linear(dit.inner_dim, n) for n in CLASSES)
        dit.transformer_blocks[0].register_forward_hook(self.keep)

    def keep(self, block, inputs, outputs):
        self.seen = outputs[0]

    def forward(self, t5):
        """Logits of objects and tints, [n, 2, classes]; t5: ids, of which 0 is padding."""
        tokens = normed(self.seen)
        read = self.key(tokens).masked_fill((t5 == 0)[..., None], -1e4).softmax(1).mT @ tokens
        return self.object(read), self.tint(read)

    def loss(self, t5, told):
        return sum(mean_error(o.flatten(0, 1), told[:, k::2].flatten()) for k, o in enumerate(self(t5)))
