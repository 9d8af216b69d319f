#!/usr/bin/env python3
"""Fits the planner's two constants for Tenstorrent machines, and compares its predictions with what is published.

usage: tools/plan_fit.py build/flux1

The two constants, the efficiencies of products and of collectives (at most 1 each), are fitted to two published times:
schnell 4.70 s and dev 21.60 s on the 2x4 Wormhole box with sp 2@0, tp 4@1. Twice:
  totals  the squared logarithms of predicted / published total are least
  step    the same of the step, (21.60 - 4.70) / 24, and, a thousand times less, of all the rest, 4.70 - 4 steps: what
          is published does other work apart from the steps than flux1 does (docs/planner.md)
Everything else is predicted, untouched. Prints the lines for src/tools/machine_table.c (those of `step`) and the tables
of docs/planner.md."""
import json
import math
import os
import subprocess
import sys
import tempfile

FLUX1 = sys.argv[1] if len(sys.argv) > 1 else "build/flux1"
STEPS = {"schnell": 4, "dev": 28}
# machine, sp, tp, variant, seconds
FITTED = [("wh-t3k", "2@0", "4@1", "schnell", 4.70), ("wh-t3k", "2@0", "4@1", "dev", 21.60)]
PREDICTED = [("wh-galaxy", "4@0", "8@1", "schnell", 2.40), ("wh-galaxy", "4@0", "8@1", "dev", 8.00)]
CEILINGS = [("bh-p300", "1@0", "2@1", 29.0), ("bh-quietbox2", "2@0", "2@1", 17.5), ("bh-loudbox", "2@0", "4@1", 12.5),
            ("bh-galaxy", "4@0", "8@1", 9.0)]
TARGETS = [("wh-t3k", "2@0", "4@1", "schnell", 2.00), ("wh-galaxy", "4@0", "8@1", "schnell", 1.00),
           ("wh-t3k", "2@0", "4@1", "dev", 6.50), ("wh-galaxy", "4@0", "8@1", "dev", 6.50)]


def flux1(*args):
    return json.loads(subprocess.run([FLUX1, "plan", "--json", *args], check=True, stdout=subprocess.PIPE).stdout)


def with_constants(name, products, collectives, folder):
    machine = flux1("--machine", name, "--describe")
    machine["efficiency"] = {"products": products, "collectives": collectives}
    path = os.path.join(folder, name + ".json")
    with open(path, "w") as f:
        json.dump(machine, f)
    return path


def plan(machine, sp, tp, variant):
    """The row of one way; 512 prompt tokens for both variants, as the published pipeline has them."""
    return flux1("--machine", machine, "--variant", variant, "--steps", str(STEPS[variant]), "--width", "1024", "--height",
                 "1024", "--max-sequence-length", "512", "--sp", sp, "--tp", tp)[0]


def predicted(constants, folder):
    """Seconds of a step and of everything else, on the box that is fitted to."""
    name, sp, tp = FITTED[0][:3]
    row = plan(with_constants(name, *(math.exp(x) for x in constants), folder), sp, tp, "dev")
    step = next(s for s in row["stages"] if s["stage"] == "dit step")
    return step["seconds_each"], row["total_seconds"] - step["seconds"]


def loss(constants, folder, by_step):
    step, rest = predicted(constants, folder)
    published = {variant: seconds for _, _, _, variant, seconds in FITTED}
    if by_step:
        theirs = (published["dev"] - published["schnell"]) / (STEPS["dev"] - STEPS["schnell"])
        others = published["schnell"] - STEPS["schnell"] * theirs
        return math.log(step / theirs) ** 2 + 1e-3 * math.log(rest / others) ** 2
    return sum(math.log((rest + STEPS[v] * step) / seconds) ** 2 for v, seconds in published.items())


def golden(f, low, high, turns):
    """The argument of the least f between low and high."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = f(a), f(b)
    for _ in range(turns):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = f(b)
    return (a, fa) if fa < fb else (b, fb)


def fit(folder, by_step):
    """The best products for each of some efficiencies of collectives. Along a curve of such pairs the loss hardly
    changes; of those within a twentieth of the least the one with most efficient collectives is taken, which are the
    vendor's own measurements where it is 1."""
    found = []
    for collectives in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        products, least = golden(lambda x: loss((x, math.log(collectives)), folder, by_step), math.log(0.05), 0.0, 12)
        print(f"collectives {collectives:.2f}: products {math.exp(products):.3f}, loss {least:.5f}")
        found.append((least, collectives, products))
    good = [f for f in found if f[0] <= 1.05 * min(found)[0]]
    _, collectives, products = max(good, key=lambda f: f[1])
    return [round(math.exp(products), 3), collectives]


def compare(title, rows, folder, constants):
    print(f"\n{title}\n| machine | way | variant | published | predicted | ratio | a step | the rest | bound |\n"
          "|---|---|---|---|---|---|---|---|---|")
    for name, sp, tp, variant, seconds in rows:
        row = plan(with_constants(name, *constants, folder), sp, tp, variant)
        step = next(s for s in row["stages"] if s["stage"] == "dit step")
        print(f"| {name} | sp {sp} tp {tp} | {variant} | {seconds:.2f} | {row['total_seconds']:.2f} | "
              f"{row['total_seconds'] / seconds:.2f} | {step['seconds_each']:.3f} | "
              f"{row['total_seconds'] - step['seconds']:.3f} | {row['bound']} |")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for by_step in (False, True):
            constants = fit(folder, by_step)
            print(f"\n==== fitted to the {'step' if by_step else 'totals'}: products {constants[0]}, collectives {constants[1]}")
            compare("Fitted", FITTED, folder, constants)
            compare("Predicted", PREDICTED, folder, constants)
            compare("Ceilings", [(n, s, t, "dev", c) for n, s, t, c in CEILINGS], folder, constants)
        print(f'\n#define TT_PRODUCTS "{constants[0]}"\n#define TT_COLLECTIVES "{constants[1]}"')
        compare("Targets", TARGETS, folder, constants)


main()
