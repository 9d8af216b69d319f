"""Backgrounds: fourteen painted scenes, plain colours with a mild vignette, and pastels, at any size.

A scene is painted at twice its size and halved. Painters use a 256 x 256 chart: positions stretch with the canvas, radii of discs follow its shorter side, so a
sun stays round on a wide picture. `r` picks among a few variants only: the fewer things a caption leaves open, the crisper the model draws."""
import random

import numpy as np
from PIL import Image, ImageDraw

from words import COLOURS, PASTEL

VARIANTS = 3
PASTELS = [(250, 236, 214), (218, 236, 250), (226, 246, 222)]


class Canvas:
    def __init__(self, width, height):
        self.w, self.h = 2 * width, 2 * height
        self.sx, self.sy = self.w / 256, self.h / 256
        self.s = min(self.sx, self.sy)
        self.image = Image.new("RGB", (self.w, self.h))
        self.d = ImageDraw.Draw(self.image)

    def sky(self, top, bottom, y0=0, y1=256):
        t = np.clip((np.arange(self.h) / self.sy - y0) / (y1 - y0), 0, 1)[:, None]
        rows = (np.array(top) * (1 - t) + np.array(bottom) * t).clip(0, 255).astype(np.uint8)
        self.image = Image.fromarray(np.repeat(rows[:, None], self.w, 1))
        self.d = ImageDraw.Draw(self.image)

    def box(self, x0, y0, x1, y1):
        return (x0 * self.sx, y0 * self.sy, x1 * self.sx, y1 * self.sy)

    def oval(self, x0, y0, x1, y1, fill):
        self.d.ellipse(self.box(x0, y0, x1, y1), fill=fill)

    def rect(self, x0, y0, x1, y1, fill):
        self.d.rectangle(self.box(x0, y0, x1, y1), fill=fill)

    def poly(self, points, fill):
        self.d.polygon([(x * self.sx, y * self.sy) for x, y in points], fill=fill)

    def line(self, x0, y0, x1, y1, fill, width=2):
        self.d.line(self.box(x0, y0, x1, y1), fill=fill, width=max(1, round(width * self.s)))

    def disc(self, x, y, radius, fill=None, outline=None, width=2):
        q, x, y = radius * self.s, x * self.sx, y * self.sy
        self.d.ellipse((x - q, y - q, x + q, y + q), fill=fill, outline=outline, width=max(1, round(width * self.s)))

    def cloud(self, x, y, size, fill=(255, 255, 255)):
        for dx, dy, q in ((-1.1, 0.15, 0.7), (0, -0.2, 1), (1.1, 0.15, 0.75), (0.4, 0.3, 0.7), (-0.5, 0.3, 0.7)):
            self.disc(x + dx * size * self.s / self.sx, y + dy * size * self.s / self.sy, q * size * 0.9, fill)


def meadow(c, r):
    c.sky((120, 190, 245), (214, 238, 252), 0, 170)
    x = r.choice((44, 90, 200))
    c.cloud(x, 36, 17)
    c.cloud((x + 110) % 230, 56, 13)
    c.oval(-140, 150, 220, 420, (120, 190, 84))
    c.oval(60, 160, 420, 440, (96, 172, 72))
    c.rect(0, 214, 256, 256, (84, 160, 64))
    for _ in range(10):
        c.disc(r.randint(0, 256), r.randint(192, 250), 3.5, r.choice(((255, 240, 120), (255, 255, 255), (250, 150, 180))))


def beach(c, r):
    c.sky((100, 186, 244), (206, 236, 250), 0, 110)
    c.cloud(r.choice((50, 120, 200)), 36, 17)
    c.rect(0, 112, 256, 170, (44, 146, 196))
    c.rect(0, 146, 256, 172, (70, 176, 208))
    c.oval(-80, 158, 336, 330, (255, 255, 255))
    c.oval(-80, 164, 336, 330, (244, 220, 160))
    c.rect(0, 210, 256, 256, (244, 220, 160))


def snow(c, r):
    c.sky((150, 186, 226), (216, 232, 246), 0, 170)
    c.oval(-120, 150, 200, 420, (232, 240, 250))
    c.oval(60, 164, 420, 440, (246, 250, 255))
    c.rect(0, 216, 256, 256, (246, 250, 255))
    for _ in range(26):
        c.disc(r.randint(0, 256), r.randint(0, 190), r.choice((2.5, 3.5, 4.5)), (255, 255, 255))


def night(c, r):
    c.sky((12, 16, 52), (44, 60, 120), 0, 190)
    for _ in range(22):
        c.disc(r.randint(0, 256), r.randint(0, 160), r.choice((1.5, 2, 3)), (255, 252, 220))
    x = r.choice((44, 212))
    c.disc(x, 38, 21, (252, 244, 200))
    c.disc(x + 9, 31, 18, (16, 21, 60))
    c.oval(-120, 176, 200, 420, (24, 40, 58))
    c.oval(60, 184, 420, 440, (18, 32, 48))
    c.rect(0, 230, 256, 256, (18, 32, 48))


def desert(c, r):
    c.sky((250, 206, 130), (254, 236, 190), 0, 160)
    c.disc(r.choice((50, 206)), 40, 22, (255, 250, 220))
    c.oval(-160, 130, 170, 420, (222, 160, 84))
    c.oval(70, 144, 440, 440, (236, 178, 98))
    c.oval(-100, 196, 400, 420, (228, 168, 90))


def sunset(c, r):
    c.sky((94, 62, 140), (255, 150, 80), 0, 160)
    x = r.choice((64, 128, 192))
    c.disc(x, 146, 34, (255, 230, 140))
    c.rect(0, 156, 256, 256, (70, 54, 110))
    for i in range(6):
        c.rect(x - 40 + 5 * i, 164 + 14 * i, x + 40 - 5 * i, 169 + 14 * i, (250, 180, 110))


def underwater(c, r):
    c.sky((70, 190, 226), (14, 66, 140))
    c.oval(-100, 216, 360, 340, (206, 190, 130))
    for _ in range(9):
        c.disc(r.randint(0, 256), r.randint(0, 190), r.choice((4, 6, 8)), outline=(220, 244, 255))
    for x in (18, 34, 226, 242):
        for j in range(6):
            dx = 4 if j % 2 else -4
            c.oval(x - 5 + dx, 170 + 10 * j, x + 5 + dx, 186 + 10 * j, (40, 140, 90))


def space(c, r):
    c.sky((10, 6, 30), (40, 18, 70))
    for _ in range(32):
        c.disc(r.randint(0, 256), r.randint(0, 256), r.choice((1.5, 2, 3)), r.choice(((255, 255, 255), (255, 230, 190), (190, 210, 255))))
    x = r.choice((46, 210))
    c.disc(x, 46, 24, (222, 150, 90))
    c.disc(x - 5, 41, 18, (238, 176, 116))
    c.line(x - 40, 54, x + 40, 38, (240, 220, 180), 5)


def forest(c, r):
    c.sky((184, 222, 210), (120, 176, 130), 0, 200)
    shift = r.choice((0, 12))
    for fill, y, h, step in (((112, 164, 124), 180, 120, 36), ((66, 128, 82), 206, 150, 48)):
        for i, x in enumerate(range(-10 + shift, 286, step)):
            top = y - h - (-14, 0, 14)[i % 3]
            c.poly(((x - 26, y), (x, top), (x + 26, y)), fill)
            c.rect(x - 4, y, x + 4, y + 14, (90, 64, 44))
    c.rect(0, 208, 256, 256, (84, 120, 60))
    c.oval(-60, 196, 316, 260, (84, 120, 60))


def city(c, r):
    c.sky((150, 196, 236), (232, 236, 240), 0, 200)
    x = -8
    while x < 256:
        w, h = r.choice((32, 40, 48)), r.choice((80, 110, 140, 160))
        c.rect(x, 212 - h, x + w, 214, r.choice(((120, 130, 150), (146, 140, 150), (104, 120, 146), (164, 150, 140))))
        for y in range(212 - h + 8, 198, 16):
            for left in range(x + 6, x + w - 6, 12):
                c.rect(left, y, left + 6, y + 8, (250, 232, 160))
        x += w + 2
    c.rect(0, 208, 256, 256, (96, 98, 106))
    c.rect(0, 208, 256, 214, (176, 176, 176))
    for x in range(8, 256, 48):
        c.rect(x, 238, x + 24, 242, (240, 240, 230))


def mountains(c, r):
    c.sky((128, 180, 232), (226, 236, 246), 0, 180)
    j = r.choice((0, 12, 20))
    for x, y, h, w in ((40 + j, 200, 120, 100), (190 - j, 200, 150, 120), (120, 204, 90, 80)):
        k = 0.3
        c.poly(((x - w, y), (x, y - h), (x + w, y)), (112, 122, 146))
        c.poly(((x, y - h), (x + w, y), (x + w * 0.2, y)), (90, 100, 126))
        c.poly(((x - w * k, y - h * (1 - k)), (x, y - h), (x + w * k, y - h * (1 - k)), (x + 4, y - h * (1 - k) + 12)), (248, 250, 255))
    c.oval(-80, 188, 336, 330, (108, 160, 92))
    c.rect(0, 222, 256, 256, (108, 160, 92))


def rain(c, r):
    c.sky((108, 120, 140), (168, 178, 190), 0, 190)
    c.cloud(60, 26, 28, (90, 98, 114))
    c.cloud(180, 22, 32, (96, 104, 120))
    c.rect(0, 208, 256, 256, (104, 116, 112))
    c.oval(40, 222, 216, 246, (132, 150, 164))
    for _ in range(24):
        x, y = r.randint(0, 256), r.randint(50, 230)
        c.line(x, y, x - 6, y + 18, (206, 220, 236), 3)


def room(c, r):
    wall = r.choice(((240, 222, 190), (206, 222, 226), (236, 210, 206)))
    c.sky(wall, wall)
    x = 24 if wall[0] == 240 else 168
    c.rect(x, 26, x + 64, 100, (255, 255, 255))
    c.rect(x + 5, 31, x + 59, 95, (150, 206, 244))
    c.rect(x + 29, 26, x + 35, 100, (255, 255, 255))
    c.rect(x, 60, x + 64, 65, (255, 255, 255))
    c.rect(0, 192, 256, 256, (178, 122, 76))
    c.rect(0, 188, 256, 195, (250, 246, 240))
    for y in (212, 234):
        c.rect(0, y, 256, y + 2, (150, 100, 62))


def rainbow(c, r):
    c.sky((140, 200, 246), (226, 242, 252), 0, 180)
    for i, fill in enumerate(((236, 70, 70), (250, 156, 60), (252, 226, 90), (96, 196, 96), (78, 140, 232), (150, 96, 204))):
        q = 112 - 9 * i
        c.oval(128 - q, 150 - q, 128 + q, 150 + q, fill)
    c.oval(128 - 58, 150 - 58, 128 + 58, 150 + 58, (200, 230, 250))
    c.oval(-80, 150, 336, 400, (110, 184, 84))
    c.rect(0, 210, 256, 256, (110, 184, 84))
    c.cloud(22, 140, 18)
    c.cloud(234, 140, 18)


PAINTERS = {f.__name__: f for f in (meadow, beach, snow, night, desert, sunset, underwater, space, forest, city, mountains, rain, room, rainbow)}


def vignette(colour, width, height, centre, fall):
    y, x = np.mgrid[0:height, 0:width]
    v = centre - fall * ((x / (width - 1) - 0.5) ** 2 + (y / (height - 1) - 0.5) ** 2)
    return (np.array(colour, np.float32) * v[..., None]).clip(0, 255).astype(np.uint8)


_cache = {}


def background(kind, variant, width, height):
    """[height, width, 3] uint8; not to be written to. `variant` counts from 0."""
    variant %= 1 if kind.startswith("plain ") else VARIANTS
    key = kind, variant, width, height
    if key not in _cache:
        if kind.startswith("plain "):
            _cache[key] = vignette(COLOURS[kind[6:]][0], width, height, 1.06, 0.32)
        elif kind == PASTEL:
            _cache[key] = vignette(PASTELS[variant], width, height, 1.03, 0.25)
        else:
            c = Canvas(width, height)
            PAINTERS[kind](c, random.Random(variant))
            _cache[key] = np.asarray(c.image.resize((width, height), Image.BOX))
    return _cache[key]
