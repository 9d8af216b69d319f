#!/usr/bin/env python3
"""Draws how tensors are cut on a mesh of 2x4, sp 2@0 and tp 4@1: docs/mesh.svg.

usage: tools/mesh_picture.py > docs/mesh.svg"""
SP, TP = 2, 4
SHADES = [["#08519c", "#3182bd", "#6baed6", "#bdd7e7"], ["#a63603", "#e6550d", "#fd8d3c", "#fdbe85"]]
SHARED = ["#525252", "#737373", "#bdbdbd", "#d9d9d9"]
INK = "#222"
WIDTH, HEIGHT = 960, 470
out = []


def colour(rank):
    return SHADES[rank // TP][rank % TP]


def ink_on(rank):
    return "#fff" if rank % TP < 2 else INK


def box(x, y, w, h, fill):
    out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" stroke="#fff" stroke-width="0.8"/>')


def text(x, y, words, size=11, anchor="start", fill=INK, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{weight}>{words}</text>')


def title(x, y, words, lines):
    text(x, y, words, 13, bold=True)
    for i, line in enumerate(lines):
        text(x, y + 16 + 14 * i, line)


def cell(x, y, w, h, rank, label=True):
    box(x, y, w, h, colour(rank))
    if label:
        text(x + w / 2, y + h / 2 + 4, rank, 11, "middle", ink_on(rank))


def ranks(x, y):
    title(x, y, "ranks", ["sp runs down (axis 0),", "tp to the right (axis 1)"])
    for r in range(SP * TP):
        cell(x + 40 * (r % TP), y + 46 + 34 * (r // TP), 40, 34, r)


def residual(x, y, width):
    """Prompt and image rows: to sp ranks, and each span's rows again to tp ranks."""
    title(x, y, "residual, latent", ["rows of each part over sp,", "then over tp; columns whole"])
    top = y + 46
    for name, height in (("prompt", 40), ("image", 136)):
        for r in range(SP * TP):
            cell(x, top + r * height / 8, width, height / 8, r, height > 100)
        text(x + width + 6, top + height / 2 + 4, name)
        top += height + 8


def heads(x, y, width):
    title(x, y, "q, k, v, attention, MLP", ["rows of each part over sp;", "heads, features over tp"])
    top = y + 46
    for name, height in (("prompt", 40), ("image", 136)):
        for r in range(SP * TP):
            cell(x + (r % TP) * width / TP, top + (r // TP) * height / SP, width / TP, height / SP, r)
        text(x + width + 6, top + height / 2 + 4, name)
        top += height + 8


def weight(x, y, width, height, words, lines, across):
    """A slice belongs to one tp rank of every sp rank."""
    title(x, y, words, lines)
    for t in range(TP):
        w, h = (width / TP, height) if across else (width, height / TP)
        left, top = (x + t * w, y + 46) if across else (x, y + 46 + t * h)
        box(left, top, w, h, SHARED[t])
        holders = ", ".join(str(s * TP + t) for s in range(SP))
        text(left + w / 2, top + h / 2 + 4, holders, 11, "middle", ink_on(t))


def bands(x, y, width, height, words, lines, seams):
    title(x, y, words, lines)
    for r in range(SP * TP):
        cell(x, y + 46 + r * height / 8, width, height / 8, r)
        if seams and r:
            out.append(f'<line x1="{x}" y1="{y + 46 + r * height / 8}" x2="{x + width}" y2="{y + 46 + r * height / 8}" '
                       f'stroke="{INK}" stroke-width="1.2" stroke-dasharray="4 3"/>')


def main():
    out.append(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
               'font-family="sans-serif">')
    out.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')
    ranks(20, 26)
    residual(220, 26, 120)
    heads(450, 26, 160)
    title(700, 26, "what moves in a block", ["enter: rows gathered over tp", "ring: k, v to the next sp rank",
                                            "leave: sums scattered over tp"])
    for r in range(SP * TP):
        cell(700 + 46 * (r % TP), 100 + 76 * (r // TP), 32, 32, r)
    for s in range(SP):
        for t in range(TP - 1):
            arrow(700 + 46 * t + 33, 116 + 76 * s, 700 + 46 * t + 45, 116 + 76 * s)
    for t in range(TP):
        arrow(716 + 46 * t, 133, 716 + 46 * t, 175)
    text(700, 226, "between columns: tp; between rows: sp")
    weight(20, 290, 160, 110, "weights by columns", ["q|k|v, MLP up: outputs", "over tp, the same on all sp"], False)
    weight(220, 290, 160, 110, "weights by rows", ["out, MLP down: inputs", "over tp, the same on all sp"], True)
    bands(450, 290, 160, 110, "encoders, modulation", ["outputs (inputs) over all", "ranks; rows too"], False)
    bands(700, 290, 178, 110, "planes of the VAE", ["rows over all ranks; a row", "to each neighbour at a seam"], True)
    out.append("</svg>")
    print("\n".join(out))


def arrow(x1, y1, x2, y2):
    """With a head at both ends."""
    out.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1"/>')
    dx, dy = (2.5, 0) if y1 == y2 else (0, 4)
    for x, y, sign in ((x1, y1, 1), (x2, y2, -1)):
        sx, sy = (sign * dx, 2.5) if y1 == y2 else (2.5, sign * dy)
        out.append(f'<path d="M{x} {y} l{sx} {sy} {"m0 -5" if y1 == y2 else "m-5 0"} l{-sx if y1 == y2 else sx} {sy if y1 == y2 else -sy}" '
                   f'stroke="{INK}" fill="none"/>')


main()
