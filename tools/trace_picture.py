#!/usr/bin/env python3
"""Draws a part of a trace that --profile has written: what each rank computes and exchanges.

usage: tools/trace_picture.py TRACE STEP BLOCK [BLOCK…] > picture.svg       BLOCK as in the trace: transformer_blocks.1
The blocks should follow each other. The upper lane of a rank has its calls, the lower one its exchanges: light while it
computes, dark while it waits for them."""
import json
import sys

WIDTH, LEFT, TOP, LANE, GAP = 1000, 120, 44, 22, 22
COLOUR = {"attention": "#7b4fa3", "product": "#3b6fb6", "other": "#9aa5b1", "hidden": "#f3c98b", "waited for": "#c8412b"}


def kind_of(name):
    return "product" if name == "product" else "attention" if name.startswith("attention") else "other"


def rect(x, y, w, h, fill):
    return f'<rect x="{x:.2f}" y="{y}" width="{max(w, 0.4):.2f}" height="{h}" fill="{fill}"/>'


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{words}</text>'


def legend(y):
    x, out = LEFT, []
    for name, fill in COLOUR.items():
        words = {"hidden": "exchange, hidden", "waited for": "exchange, waited for", "other": "other calls"}.get(name, name)
        out += [rect(x, y - 10, 12, 12, fill), text(x + 17, y, words)]
        x += 34 + 7 * len(words)
    return out


def main():
    path, step, blocks = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    with open(path) as f:
        events = json.load(f)["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    spans = [e for e in events if e["ph"] == "X" and e["cat"] in ("call", "exchange") and e["args"].get("step") == step]
    of_blocks = [e for e in spans if e["args"].get("block") in blocks]
    if not of_blocks:
        sys.exit(f"{path}: step {step} has no spans of {', '.join(blocks)}")
    begin, end = min(e["ts"] for e in of_blocks), max(e["ts"] + e["dur"] for e in of_blocks)
    scale = (WIDTH - LEFT - 14) / (end - begin)
    height = TOP + len(names) * (2 * LANE + GAP) + 46
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="11">', rect(0, 0, WIDTH, height, "#fff")]
    for block in blocks:
        mine = [e for e in of_blocks if e["args"]["block"] == block]
        x = LEFT + (min(e["ts"] for e in mine) - begin) * scale
        out += [text(x + 3, TOP - 16, block), rect(x, TOP - 24, 1, height - TOP - 12, "#444")]
    for rank, name in sorted(names.items()):
        y = TOP + rank * (2 * LANE + GAP)
        out += [text(8, y + 14, name.split(" (")[0]), text(LEFT - 6, y + 15, "computes", "end"),
                text(LEFT - 6, y + LANE + 17, "exchanges", "end")]
        for e in (e for e in spans if e["pid"] == rank and begin <= e["ts"] and e["ts"] + e["dur"] <= end):
            x, w = LEFT + (e["ts"] - begin) * scale, e["dur"] * scale
            if e["cat"] == "call":
                out.append(rect(x, y, w, LANE, COLOUR[kind_of(e["name"])]))
                continue
            waited = min(w, e["args"]["exposed_us"] * scale)
            out += [rect(x, y + LANE + 3, w, LANE, COLOUR["hidden"]),
                    rect(x + w - waited, y + LANE + 3, waited, LANE, COLOUR["waited for"])]
    ticks = (WIDTH - LEFT - 14) / scale / 1e3
    out += [text(LEFT, height - 30, "0 ms"), text(WIDTH - 14, height - 30, f"{ticks:.1f} ms", "end")]
    print("\n".join(out + legend(height - 10) + ["</svg>"]))


main()
