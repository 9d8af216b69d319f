"""What flux1 plan says of a card's memory, of each part and of all, is what the worker holds at its peak: its calls are made with a library that knows shapes alone
(shapes_ttnn.py), for FLUX.1 on all of Tenstorrent's machines and at several sizes.

usage: memory.py FLUX1        exit 77: this flux1 does not record
"""
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/ttnn")]
os.environ["FLUX1_TTNN_BLOCKINGS"] = "/nowhere/table.json"  # no table of this machine's
import flux1_ttnn as worker
import shapes_ttnn

SAME = 0.01
PARTS = {"clip", "t5", "dit", "vae", "all"}
RUNS = (  # machine, mesh, variant, width and height, form of weights
    ("wh-n300", "1x2sp0tp1", "dev", (1024, 1024), "bfloat8_b"), ("wh-n300", "1x2sp0tp1", "schnell", (768, 512), "bfloat16"),
    ("wh-t3k", "2x4sp0tp1", "dev", (1024, 1024), "bfloat16"), ("wh-1x4", "1x4sp0tp1", "schnell", (992, 624), "bfloat16"),
    ("bh-p300", "1x2sp0tp1", "dev", (1024, 1024), "bfloat16"), ("bh-quietbox2", "2x2sp1tp0", "schnell", (512, 512), "bfloat8_b"),
    ("bh-loudbox", "2x4sp0tp1", "dev", (1024, 1024), "bfloat16"), ("wh-galaxy", "4x8sp0tp1", "dev", (1024, 1024), "bfloat16"),
    ("bh-galaxy", "4x8sp0tp1", "dev", (1024, 1024), "bfloat16"), ("wh-t3k", "2x4sp0tp1", "dev", (832, 1216), "bfloat8_b"),
    ("wh-galaxy", "4x8sp0tp1", "schnell", (992, 624), "bfloat16"), ("bh-loudbox", "2x4sp1tp0", "schnell", (992, 624), "bfloat16"))
CHIPS = {"wh": (12, 32, (8, 8)), "bh": (8, 64, (13, 10))}  # banks, alignment of pages, columns and rows of cores


def planned(flux1, machine, mesh, variant, size, weights, room):
    """A recording and a plan with this form of T5's and the transformer's matrices."""
    told = json.loads(subprocess.run([flux1, "plan", "--machine", machine, "--describe"], check=True, capture_output=True, text=True).stdout)
    cell = shapes_ttnn.CELL[getattr(shapes_ttnn, weights)]
    if told["weight_cell_bytes"] != cell:
        machine = os.path.join(room, "machine.json")
        with open(machine, "w", encoding="utf-8") as f:
            json.dump(told | {"weight_cell_bytes": cell}, f)
    names = [os.path.join(room, name) for name in ("rec", "plan.json")]
    with open(names[1], "w", encoding="utf-8") as f:
        subprocess.run([flux1, "plan", "--variant", variant, "--machine", machine, "--mesh", mesh, "--width", str(size[0]), "--height", str(size[1]), "--record", names[0],
                        "--json"], check=True, stdout=f)
    return names


def held(recording, machine, weights):
    """Of each part the bytes of a device at its peak, as Heights has them. And of all: what all of them leave on the cards, and the most that one has beside,
    which is the peak of each picture but the first, whose first parts find less there. As in a session each part has a mapper, which goes on holding what it has."""
    banks, alignment, grid = CHIPS[machine[:2]]
    device = shapes_ttnn.open_device(recording.mesh.shape, banks, alignment, grid)
    heights = worker.Heights(shapes_ttnn, device)
    watched = worker.Watched(shapes_ttnn, heights.watch)
    mappers, begins = {}, {}
    for name in worker.STAGES:
        part = name.partition(".")[0]
        if part not in mappers:
            mappers[part] = worker.Mapper(recording, watched, device, 1, getattr(shapes_ttnn, weights), worker.Nothing(watched, device))
        mappers[part].enter(part)
        heights.enter(part)
        begins.setdefault(part, heights.begin)
        mappers[part].run(name, recording.stages[name])
    left = heights.now()
    kept = {part: end - begin for (part, begin), end in zip(begins.items(), [*begins.values()][1:] + [left])}
    total = left + max(heights.most[part] - kept[part] for part in kept)
    first = max(begins[part] + heights.most[part] for part in kept)
    if not left < first <= total:
        sys.exit(f"FAILED: {left} bytes of a bank stay, a first picture has {first} at its peak, and another one {total}")
    return {part: most * banks for part, most in heights.most.items() if part} | {"all": total * banks}


def check(flux1, machine, mesh, variant, size, weights, room):
    path, plan = planned(flux1, machine, mesh, variant, size, weights, room)
    with open(path, encoding="utf-8") as f:
        recording = worker.Recording(f)
    got, said = held(recording, machine, weights), worker.planned(plan, recording)
    way = worker.planned_way(plan, recording)
    said["all"] = way["memory_bytes"]
    if way["fits"] != (said["all"] <= way["memory_limit_bytes"]):
        sys.exit(f"FAILED: {machine} fits and takes more than there is, or the other way")
    if set(got) != PARTS or set(said) != PARTS:
        sys.exit(f"FAILED: {machine} has the parts {sorted(got)} and the plan {sorted(said)}")
    off = {part: said[part] / got[part] - 1 for part in got}
    print(f"{machine} {mesh} {variant} {size[0]}x{size[1]} {weights}: " + ", ".join(f"{part} {got[part] / 1e6:.0f} MB ({100 * off[part]:+.2f} %)" for part in got))
    if not all(abs(x) <= SAME for x in off.values()):
        sys.exit(f"FAILED: the plan's memory of {machine}")


def main():
    flux1 = sys.argv[1]
    if "--record" not in subprocess.run([flux1, "plan", "--help"], capture_output=True, text=True).stdout:
        print("skipped: this flux1 does not record")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as room:
        for run in RUNS:
            check(flux1, *run, room)


if __name__ == "__main__":
    main()
