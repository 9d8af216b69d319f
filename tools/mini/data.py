"""Captioned pictures, each a function of its seed: Noto Color Emoji sprites on painted scenes (`python data.py --sheet sheet.png`).

`spec(r)` draws a description, `render` paints it, `caption` says it in words; the caption fixes the picture but for a scene's few variants. Objects sit on the
token grid (16 x 16 px): their centres and feet fall on the same phase wherever they stand, or the model would have to learn each object once for every offset.
One pair in ten of (object, background), (object, tint) and (object, object) is never drawn in training: those are for evaluation (held_out.json)."""
import argparse
import itertools
import json
import random
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scenes import VARIANTS, background
from words import (BACKGROUNDS, CLOSINGS, COLOURS, FILLERS, NAMES, NUMBERS, OBJECTS, OPENINGS, PASTEL, PLACES, RELATIONS, SCENES, SIZES, TINTS)

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"  # Debian fonts-noto-color-emoji; its bitmaps are 136 x 128
HELD_OUT = Path(__file__).with_name("held_out.json")
SIZE = (128, 128)
OTHER_SIZES = [(96, 96), (128, 96), (96, 128), (160, 128), (128, 160), (160, 160), (192, 128), (128, 192), (192, 192)]  # width, height
PLAIN_SHADOWLESS = ("space", "underwater")

# ---- what is never trained on


def held(kind, a, b):
    """Whether the pair is held out. kind: "background", "tint" or "object" (order of the two objects is free)."""
    if kind == "object":
        a, b = sorted((a, b))
    return zlib.crc32(f"{kind}|{a}|{b}".encode()) % 10 == 0


def held_out():
    pairs = dict(background=itertools.product(NAMES, BACKGROUNDS), tint=itertools.product(NAMES, TINTS), object=itertools.combinations(NAMES, 2))
    return {k: [[a, b] for a, b in v if held(k, a, b)] for k, v in pairs.items()}


def check_held_out():
    if json.loads(HELD_OUT.read_text()) != held_out():
        raise SystemExit(f"{HELD_OUT} does not fit the words of words.py: python data.py --held-out writes it anew, and all training starts over.")


def held_pairs(s):
    """The held-out pairs that a description contains."""
    found = []
    for name, tint in s["objects"]:
        if s["background"] != PASTEL and held("background", name, s["background"]):
            found.append(("background", name, s["background"]))
        if tint and held("tint", name, tint):
            found.append(("tint", name, tint))
    if len(s["objects"]) == 2 and held("object", s["objects"][0][0], s["objects"][1][0]):
        found.append(("object", s["objects"][0][0], s["objects"][1][0]))
    return found


# ---- descriptions

KINDS = dict(one=0.42, two=0.34, count=0.12, place=0.12)


def spec(r, allow_held=False, kind=None, tinted=0.3):
    """A description: kind, objects [(name, tint or None)], background, and size, relation, n or place by kind. `r`: random.Random."""
    while True:
        b = r.choice(BACKGROUNDS[:14]) if r.random() < 0.5 else r.choice(BACKGROUNDS[14:])
        b = PASTEL if r.random() < 0.1 else b
        k = kind or r.choices(list(KINDS), KINDS.values())[0]
        names = r.sample(NAMES, 2 if k == "two" else 1)
        s = dict(kind=k, objects=[(n, r.choice(list(TINTS)) if r.random() < tinted else None) for n in names], background=b)
        if k == "one":
            s["size"] = r.choice((None, None, None, "big", "small"))
        elif k == "two":
            s["relation"] = r.choice(("and", "and", "left", "right", "above", "below"))
        elif k == "count":
            s["n"] = r.choice((2, 3, 4))
        else:
            s["place"] = r.choice(list(PLACES))
        if any(b == "plain " + str(t) for _, t in s["objects"]):
            continue  # a white cat on white has no outline to learn from
        if allow_held or not held_pairs(s):
            return s


def in_picture_order(s):
    """The objects from left to right or top to bottom."""
    return s["objects"][::-1] if s.get("relation") in ("right", "below") else s["objects"]


LAYOUTS = ["one", "one big", "one small", "side by side", "one above the other", "two", "three", "four"] + ["place " + p for p in PLACES]


def layout(s):
    if s["kind"] == "one":
        return "one" + (" " + s["size"] if s["size"] else "")
    if s["kind"] == "two":
        return "one above the other" if s["relation"] in ("above", "below") else "side by side"
    return ("two", "three", "four")[s["n"] - 2] if s["kind"] == "count" else "place " + s["place"]


HEADS = dict(object1=NAMES, tint1=[None] + list(TINTS), object2=[None] + NAMES, tint2=[None] + list(TINTS), background=BACKGROUNDS + [PASTEL], layout=LAYOUTS)


def labels(s):
    """Class numbers, one for each of HEADS; objects in picture order."""
    o = in_picture_order(s) + [(None, None)]
    values = (o[0][0], o[0][1], o[1][0], o[1][1], s["background"], layout(s))
    return [head.index(v) for head, v in zip(HEADS.values(), values)]


# ---- pictures

_sprites = {}


def sprite(name, size, tint=None):
    """[h, w, 4] float32, colours premultiplied, longer side `size` px. A tint keeps luminance, so eyes and highlights stay."""
    key = name, size, tint
    if key in _sprites:
        return _sprites[key]
    im = Image.new("RGBA", (160, 150), (0, 0, 0, 0))
    ImageDraw.Draw(im).text((8, 8), OBJECTS[name][0], font=ImageFont.truetype(FONT, 109), embedded_color=True)
    im = im.crop(im.getchannel("A").getbbox())
    scale = size / max(im.size)
    to = max(1, round(im.width * scale)), max(1, round(im.height * scale))
    a = np.asarray(im).astype(np.float32) / 255
    a[..., :3] *= a[..., 3:]
    a = np.stack([np.asarray(Image.fromarray(a[..., i]).resize(to, Image.LANCZOS)) for i in range(4)], -1).clip(0, 1)
    if tint:
        rgb = a[..., :3] / np.maximum(a[..., 3:], 1e-3)
        lum = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
        mean = float((lum * a[..., 3]).sum() / a[..., 3].sum())
        low, high = np.clip(lum / mean, 0, 1)[..., None], np.clip((lum - mean) / (1.001 - mean), 0, 1)[..., None]
        rgb = np.array(TINTS[tint][0], np.float32) / 255 * (0.15 + 0.85 * low)
        a[..., :3] = (rgb + (1 - rgb) * high * 0.75) * a[..., 3:]
    _sprites[key] = a
    return a


def put(im, sp, cx, foot, shadow):
    """Draws a sprite with its bottom centre at (cx, foot), over a soft elliptic shadow that ties it to the ground."""
    (h, w), (H, W) = sp.shape[:2], im.shape[:2]
    if shadow:
        rx, ry = w * 0.42, max(3, h * 0.06)
        x0, x1 = max(0, int(cx - 1.2 * rx)), min(W, int(cx + 1.2 * rx) + 2)
        y0, y1 = max(0, int(foot - 1.2 * ry) - 1), min(H, int(foot + 1.2 * ry) + 1)
        e = ((np.arange(x0, x1) - cx) / rx)[None] ** 2 + ((np.arange(y0, y1) - foot + 1) / ry)[:, None] ** 2
        im[y0:y1, x0:x1] *= (1 - 0.28 * np.clip(1.4 - e, 0, 1))[..., None]
    left, top = round(cx - w / 2), foot - h
    x0, y0, x1, y1 = max(0, left), max(0, top), min(W, left + w), min(H, top + h)
    q = sp[y0 - top:y1 - top, x0 - left:x1 - left]
    im[y0:y1, x0:x1] = im[y0:y1, x0:x1] * (1 - q[..., 3:]) + q[..., :3] * 255


def placements(s, size=SIZE):
    """[(name, tint, sprite's longer side, x of its centre, y of its foot)], the later ones in front. Small pictures use the next smaller sprites, large ones the
    next larger: the sizes are shared."""
    W, H = size
    small, middle, large = {0: (40, 56, 80), 1: (56, 80, 104), 2: (80, 104, 128)}[(min(W, H) >= 128) + (min(W, H) >= 160)]
    left, centre, right = W // 4, W // 2, W - W // 4
    bottom, ground, upper, lone = H - 4, H - 20, H // 2 - 4, H // 2 + 28   # 124, 108, 60, 92 at 128
    objects, px = in_picture_order(s), small
    if s["kind"] == "one":
        px = {None: middle, "big": large, "small": small}[s["size"]]
        spots = [(centre, H - 12 if px == large else ground)]
    elif s["kind"] == "two":
        spots = [(left, ground), (right, ground)] if layout(s) == "side by side" else [(centre, upper), (centre, bottom)]
    elif s["kind"] == "count":
        spots = {2: [(left, ground), (right, ground)], 3: [(centre, upper), (left, bottom), (right, bottom)],
                 4: [(left, upper), (right, upper), (left, bottom), (right, bottom)]}[s["n"]]
        objects = objects * s["n"]
    else:
        spots = [(left if "left" in s["place"] else right, upper if "top" in s["place"] else bottom if "bottom" in s["place"] else lone)]
    return [(name, tint, px, x, y) for (name, tint), (x, y) in zip(objects, spots)]


def render(s, r, size=SIZE):
    """[height, width, 3] uint8."""
    im = background(s["background"], r.randrange(VARIANTS), *size).astype(np.float32)
    for name, tint, px, x, y in placements(s, size):
        put(im, sprite(name, px, tint), x, y, s["background"] not in PLAIN_SHADOWLESS)
    return im.clip(0, 255).astype(np.uint8)


SPRITE_SIZES = (40, 56, 80, 104, 128)
REGION_HEADS = dict(object=len(NAMES) + 1, tint=len(TINTS) + 2, size=len(SPRITE_SIZES) + 1, across=10, up=10)


def regions(s, size=SIZE):
    """[tokens, 5] uint8, what each token of 16 x 16 px shows, class 0 being the background: object, tint (1: none), sprite size, and where in the sprite the token
    lies: columns from its centre + 5, rows above its foot + 1. A sprite owns the tokens that it covers by a fifth."""
    W, H = size
    out = np.zeros((H // 16, W // 16, 5), np.uint8)
    for name, tint, px, x, foot in placements(s, size):
        alpha = sprite(name, px)[..., 3]
        h, w = alpha.shape
        top, left = foot - h, round(x - w / 2)
        cover = np.zeros((H + 256, W + 256), np.float32)
        cover[128 + top:128 + top + h, 128 + left:128 + left + w] = alpha
        cover = cover[128:128 + H, 128:128 + W].reshape(H // 16, 16, W // 16, 16).mean((1, 3))
        for row, column in zip(*np.nonzero(cover > 0.2)):
            out[row, column] = (1 + NAMES.index(name), 1 + (0 if tint is None else 1 + list(TINTS).index(tint)), 1 + SPRITE_SIZES.index(px),
                                np.clip(column - x // 16 + 5, 1, 9), np.clip((foot - 1) // 16 - row + 1, 1, 9))
    return out.reshape(-1, 5)


# ---- captions


def article(word):
    return "an " + word if word[0] in "aeio" or word.startswith("un") and not word.startswith("uni") else "a " + word


def words_for(name, r, plural=False):
    _, many, others = OBJECTS[name]
    forms = [f"{name}/{many}"] * 2 + others if others else [f"{name}/{many}"]
    return r.choice(forms).split("/")[plural]


def colour_word(table, name, r):
    return r.choice([name, name] + table[name][1])


def noun_phrase(name, tint, size, r, terse):
    adjectives = ([r.choice(FILLERS)] if r.random() < 0.06 else []) + ([r.choice(SIZES[size])] if size else [])
    after = ""
    if tint and r.random() < 0.06 and not terse:
        after = r.choice((" that is ", " coloured ", " in ")) + colour_word(TINTS, tint, r)
    elif tint:
        adjectives.append(colour_word(TINTS, tint, r))
    text = " ".join(adjectives + [words_for(name, r)])
    return text if terse else (("the " + text) if r.random() < 0.05 else article(text)) + after


def caption(s, r):
    """One of many ways to say it. `r`: random.Random."""
    (name, tint), kind, terse = s["objects"][0], s["kind"], r.random() < 0.06
    if kind == "one":
        text = noun_phrase(name, tint, s["size"], r, terse)
    elif kind == "count":
        text = " ".join([r.choice(NUMBERS[s["n"]])] + ([colour_word(TINTS, tint, r)] if tint else []) + [words_for(name, r, plural=True)])
    elif kind == "place":
        text = noun_phrase(name, tint, None, r, terse) + " " + r.choice(PLACES[s["place"]])
    else:
        text = f"{noun_phrase(name, tint, None, r, terse)} {r.choice(RELATIONS[s['relation']])} {noun_phrase(*s['objects'][1], None, r, terse)}"
    b, u = s["background"], r.random()
    if b.startswith("plain "):
        c = colour_word(COLOURS, b[6:], r)
        text = f"{c} background, {text}" if u < 0.05 else text + " " + r.choice((f"on {article(c)} background",) * 2 + (f"on {c}", f"against {article(c)} background", f"with {article(c)} background"))
    elif b != PASTEL:
        phrases, scenes = SCENES[b]
        if u < 0.08:
            text = r.choice(phrases) + r.choice((", ", " ", " there is ")) + text
        elif u < 0.14:
            text = r.choice(scenes) + " with " + text
        else:
            text += (", " if r.random() < 0.06 else " ") + r.choice(phrases)
    if r.random() < 0.3:
        text = r.choice(OPENINGS) + " " + text
    return text + (r.choice(CLOSINGS) if r.random() < 0.06 else "") + ("." if r.random() < 0.08 else "")


# ---- seeds


def sample(seed, size=SIZE, allow_held=False, **how):
    """(spec, picture) of a seed."""
    r = random.Random(seed)
    s = spec(r, allow_held, **how)
    return s, render(s, r, size)


def captions(s, seed, n):
    """n ways to say a description."""
    return [caption(s, random.Random(seed * 31 + 7 * i + 1)) for i in range(n)]


def held_prompts(n, seed=10**9):
    """n (spec, caption, seed) for evaluation, each with a held-out pair: 2/5 single objects, 2/5 two objects, 1/5 counts and places; half of the objects tinted."""
    out, kinds = [], ("one", "two", "one", "two", "count", "one", "two", "one", "two", "place")
    while len(out) < n:
        seed += 1
        s = spec(random.Random(seed), True, kinds[len(out) % 10], 0.5)
        if held_pairs(s):
            out.append((s, captions(s, seed, 1)[0], seed))
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--sheet", help="write 60 pictures, some of other sizes, and print their captions")
    a.add_argument("--held-out", action="store_true", help="write held_out.json")
    a = a.parse_args()
    if a.held_out:
        HELD_OUT.write_text(json.dumps(held_out(), indent=None, separators=(",", ":")).replace('],["', '],\n["') + "\n")
    if a.sheet:
        sheet = Image.new("RGB", (10 * 132, 5 * 132 + 200), "white")
        for i in range(50):
            s, im = sample(i)
            sheet.paste(Image.fromarray(im), (i % 10 * 132, i // 10 * 132))
            print(captions(s, i, 1)[0])
        x = 0
        for i, size in enumerate(OTHER_SIZES):
            sheet.paste(Image.fromarray(sample(500 + i, size)[1]), (x, 5 * 132))
            x += size[0] + 4
        sheet.save(a.sheet)


if __name__ == "__main__":
    main()
