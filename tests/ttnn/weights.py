"""Weights of `--device ttnn`, with the vendor's library in numpy (stand_in): packed ones are kept on disk (`--cache`) and found again by content, whatever happens to
the entries; adapters are merged into them, and a following request has its own.

usage: weights.py FLUX1 PIPELINE        exit 77: this Python has no numpy
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]
from device import SAME, SMALL, Test, close, command_line
from same_numbers import relative, safetensors

CARDS = ("--device", "ttnn:wh-t3k", "--mesh", "1x2")
STAGES = ("clip", "t5", "dit.open", "vae")


# ---- files -----------------------------------------------------------------------------------------------------------------


def write_safetensors(path, tensors):
    """float32 by name."""
    header, at = {}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + 4 * x.size]}
        at += 4 * x.size
    head = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(head).to_bytes(8, "little") + head + b"".join(x.astype("<f4").tobytes() for x in tensors.values()))


def to_bf16(x):
    """To nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def write_changed(source, target, changes):
    """A file of bf16 tensors with these added to them."""
    with open(source, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        head, data = f.read(length), bytearray(f.read())
    header, now = json.loads(head), safetensors(source)
    for name, change in changes.items():
        assert header[name]["dtype"] == "BF16", name
        begin, end = header[name]["data_offsets"]
        data[begin:end] = to_bf16(now[name] + change.reshape(now[name].shape)).tobytes()
    with open(target, "wb") as f:
        f.write(length.to_bytes(8, "little") + head + data)


# ---- the cache -------------------------------------------------------------------------------------------------------------


class Cache:
    def __init__(self, t, name):
        self.t, self.path = t, t.path(name)
        t.env["XDG_CACHE_HOME"] = t.room  # where the contents of files are noted

    def options(self, name="a.png", cards=CARDS):
        return (*SMALL, "--dtype", "f32", *cards, "--cache", self.path, "--verbose", "--output", self.t.path(name))

    def picture(self, like, cards=CARDS, most=0, **env):
        """A picture that is that of no cache; what was said."""
        said = self.t.run(*self.options(cards=cards), **env).stderr
        close("of the cache", self.t.path("a.png"), self.t.path(like), most)
        return said

    def entries(self):
        """Name to inode: what is made again has another one."""
        return {n: os.stat(os.path.join(self.path, n)).st_ino for n in sorted(os.listdir(self.path))}

    def of_part(self, part):
        done = subprocess.run([self.t.flux1, "cache", "list", "--cache", self.path, "--json"], env=self.t.env, capture_output=True, text=True, check=True)
        return [os.path.join(self.path, e["file"]) for e in json.loads(done.stdout)["files"] if e.get("part") == part]  # a damaged one has no description


def given(said):
    """Stage to (bytes given, bytes from the cache)."""
    return {stage: (size, cached) for size, stage, cached in re.findall(r": (\S+ \S+) of weights for (\S+) in \S+ s(?:, (\S+ \S+) of them from the cache)?", said)}


def all_cached(said):
    sizes = given(said)
    assert set(sizes) == set(STAGES) and all(size == cached for size, cached in sizes.values()), said


def flags(said):
    """By stage: whether there are weights from the cache."""
    return [bool(given(said)[s][1]) for s in STAGES]


def entries_are_found_by_content(t):
    """The same again, from disk; others for another cut, another form and another file; where the ranks' weights are the same, the same."""
    c, small = Cache(t, "content"), ("--device", "ttnn:wh-n300", "--mesh", "1x2")
    t.run(*SMALL, "--dtype", "f32", *CARDS, "--output", t.path("two.png"))
    assert flags(c.picture("two.png")) == [False] * 4
    first = c.entries()
    assert len(first) == 4 and all(n.endswith(".prepared") for n in first), first
    all_cached(c.picture("two.png"))
    assert c.entries() == first
    # encoders are cut by all ranks, as on 1x2, modulations too; the VAE's weights are every rank's
    assert flags(c.picture("two.png", ("--device", "ttnn:wh-t3k", "--mesh", "2x1"), most=1)) == [True, True, False, True]
    t.run(*SMALL, "--dtype", "f32", *small, "--output", t.path("small.png"))
    assert flags(c.picture("small.png", small)) == [True, False, False, True]  # T5 and the transformer in bfp8
    changed, plain = t.path("changed.safetensors"), t.path("transformer.safetensors")
    write_changed(plain, changed, {"final_layer.linear.weight": safetensors(plain)["final_layer.linear.weight"]})
    model, t.model = t.model, [changed if o == plain else o for o in t.model]
    t.run(*SMALL, "--dtype", "f32", *CARDS, "--output", t.path("changed.png"))
    assert flags(c.picture("changed.png")) == [True, True, False, True]
    t.model = model
    subprocess.run([t.flux1, "cache", "verify", "--cache", c.path], env=t.env, check=True, stdout=subprocess.DEVNULL)


def damaged_entries_are_made_again(t):
    """All in one run, each told once; the block that is damaged is packed, and the entry that takes its place is whole."""
    c = Cache(t, "damaged")
    c.picture("two.png")
    for part, damage in (("dit", "flipped"), ("clip", "cut"), ("t5", "flipped")):
        path, = c.of_part(part)
        with open(path, "r+b") as f:
            f.seek(-100, os.SEEK_END)
            if damage == "cut":
                f.truncate()
            else:
                last = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([last[0] ^ 16]))
    said = c.picture("two.png")
    assert said.count("prepared weights cannot be used") == said.count("made again") == 3 and said.count("the checksum of block") == 2, said
    assert flags(said) == [False, True, True, True], said  # of a cut one nothing is taken
    all_cached(c.picture("two.png"))


def an_entry_that_goes_comes_again(t):
    """The VAE's filters are asked for again for another size, when the worker has all else: the new entry is whole nevertheless."""
    c = Cache(t, "damaged")
    child = subprocess.Popen([t.flux1, "generate", *t.model, "--jsonl", "--dtype", "f32", *CARDS, "--cache", c.path], env=t.env, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for width in (128, 256):
        os.unlink(*c.of_part("vae"))
        line = {"prompt": "a red fox", "seed": 5, "steps": 1, "width": width, "height": 128, "max_sequence_length": 64, "output": t.path(f"again-{width}.png")}
        child.stdin.write(json.dumps(line) + "\n")
        child.stdin.flush()
        assert "error" not in json.loads(child.stdout.readline())
        assert len(c.of_part("vae")) == 1
    child.stdin.close()
    assert child.wait(60) == 0
    all_cached(c.picture("two.png"))


def what_cannot_be_stored_is_told_once(t):
    """The run goes on without."""
    c = Cache(t, "full")
    said = c.picture("two.png", FLUX1_CACHE_SIZE="20K")
    assert said.count("does not fit") == 1 and said.count("not stored from here on") == 1, said


def killed_and_at_once(t):
    """flux1 is killed while it writes: what is left is no entry, and is written anew. Two at once: both have their pictures."""
    c = Cache(t, "killed")
    child = subprocess.Popen(t.command(*c.options("x.png")), env=t.env | {"FLUX1_STAND_IN": "hang@3"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (os.path.isdir(c.path) and any(n.endswith(".tmp") for n in os.listdir(c.path)) and len(os.listdir(c.path)) > 1):
        assert time.monotonic() < until and child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    left = [n for n in os.listdir(c.path) if n.endswith(".tmp")]
    assert len(left) == 1, left
    while any(t.tmp in command_line(p) for p in os.listdir("/proc") if p.isdigit()):
        assert time.monotonic() < until, "a worker outlives flux1"
        time.sleep(0.05)
    for name in os.listdir(t.tmp):
        subprocess.run(["rm", "-rf", os.path.join(t.tmp, name)], check=True)
    both = [subprocess.Popen(t.command(*c.options(name)), env=t.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for name in ("x.png", "y.png")]
    for child in both:
        said = child.communicate(timeout=120)[1]
        assert child.returncode == 0 and "prepared weights" not in said, said
    close("two at once", t.path("x.png"), t.path("two.png"), 0)
    close("two at once", t.path("y.png"), t.path("two.png"), 0)
    all_cached(c.picture("two.png"))
    assert not [n for n in os.listdir(c.path) if n.endswith(".tmp")]


def one_pool_packs_all(t):
    """The program's threads, by their numbers, which are not given twice: those that pack do so for all weights."""
    child = subprocess.Popen([*t.command(*CARDS), "--threads", "16", "--output", t.path("pool.png")], env=t.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen, most = set(), 0
    while child.poll() is None:
        try:
            now = os.listdir(f"/proc/{child.pid}/task")
        except OSError:
            break
        seen.update(now)
        most = max(most, len(now))
        time.sleep(0.001)
    assert child.wait(60) == 0 and most >= 16 and len(seen) < 32, f"{len(seen)} threads, {most} at a time"


# ---- adapters --------------------------------------------------------------------------------------------------------------


# Of the adapter: part, layer, the file's tensor, where the layer's rows begin in it, their number.
LAYERS = (
    ("transformer", "transformer_blocks.0.attn.to_q", "double_blocks.0.img_attn.qkv", 0, 40),
    ("transformer", "transformer_blocks.0.ff.net.2", "double_blocks.0.img_mlp.2", 0, 40),
    ("transformer", "transformer_blocks.0.norm1.linear", "double_blocks.0.img_mod.lin", 0, 240),
    ("transformer", "single_transformer_blocks.0.attn.to_v", "single_blocks.0.linear1", 80, 40),
    ("transformer", "single_transformer_blocks.0.proj_out", "single_blocks.0.linear2", 0, 40),
    ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.0.self_attn.q_proj", 0, 24),
    ("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.v", "encoder.block.0.layer.0.SelfAttention.v", 0, 16),
    ("text_encoder_2", "encoder.block.1.layer.1.DenseReluDense.wo", "encoder.block.1.layer.1.DenseReluDense.wo", 0, 16),
)


def make_adapter(t):
    """A LoRA of all three parts and a difference of a bias, of numbers whose sums are exact; what it adds, by file."""
    generator, adapter, adds = np.random.default_rng(3), {}, {}
    pick = lambda *shape: generator.integers(-1, 2, shape).astype(np.float32)
    for part, layer, tensor, first, rows in LAYERS:
        whole = np.zeros_like(safetensors(t.path(part + ".safetensors"))[tensor + ".weight"])
        down, up = pick(2, whole.shape[1]) / 32, pick(rows, 2)
        adapter[f"{part}.{layer}.lora_A.weight"], adapter[f"{part}.{layer}.lora_B.weight"] = down, up
        whole[first:first + rows] = up @ down
        adds.setdefault(part, {})[tensor + ".weight"] = whole
    bias = adds["transformer"]["double_blocks.0.img_attn.qkv.bias"] = np.zeros(120, np.float32)
    adapter["transformer.transformer_blocks.0.attn.to_k.diff_b"] = bias[40:80] = pick(40) / 16
    by_key = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"  # it goes to the cards as an input; twice its values at 0.5 are exact too
    own = safetensors(t.path("text_encoder_2.safetensors"))[by_key + ".weight"]
    adapter[f"text_encoder_2.{by_key}.diff"] = adds["text_encoder_2"][by_key + ".weight"] = 2 * own * abs(pick(*own.shape))
    write_safetensors(t.path("adapter.safetensors"), adapter)
    return adds


def merged_model(t, plain, adds, scale):
    """Options of the model, with files that have the adapter in them."""
    model = list(plain)
    for part, changes in adds.items():
        source, target = t.path(part + ".safetensors"), t.path(f"{part}-{scale}.safetensors")
        write_changed(source, target, {name: np.float32(scale) * change for name, change in changes.items()})
        model[model.index(source)] = target
    return model


def adapters_are_in_the_weights(t):
    """Pictures with an adapter are those of a model whose files have it, as numpy has put it there; one request behind the other, each with its own, by one worker."""
    adds, lora, wanted, plain = make_adapter(t), t.path("adapter.safetensors"), {}, t.model
    for scale in (1, 0.5):
        t.model = merged_model(t, plain, adds, scale)
        t.run(*SMALL, "--dtype", "f32", "--dump", t.path(f"merged-{scale}.st"), "--output", t.path(f"merged-{scale}.png"))
        wanted[scale] = safetensors(t.path(f"merged-{scale}.st"))
    t.model = plain
    c = Cache(t, "damaged")
    for scale, cached in ((0.5, False), (0.5, True)):
        said = t.run(*c.options(), "--lora", f"{lora}:{scale}", "--dump", t.path("cards.st")).stderr
        assert flags(said) == [cached, cached, cached, True], said  # adapters do not change the VAE
        got = safetensors(t.path("cards.st"))
        for name in ("prompt_embeds", "pooled_prompt_embeds", "latents.1", "decoded"):
            near, far = relative(got[name], wanted[scale][name]), relative(wanted[1][name], wanted[scale][name])
            print(f"adapter {name}: {near:.1e}, and {far:.1e} between scales")
            assert near < SAME < 50 * SAME < far, name
    requests = ((None, "two.png"), (f"{lora}:0.5", "merged-0.5.png"), (lora, "merged-1.png"), (None, "two.png"))
    lines = [{"prompt": "a red fox", "seed": 5, "steps": 1, "width": 128, "height": 128, "max_sequence_length": 64, "output": t.path(f"own-{i}.png")} |
             ({"lora": adapter} if adapter else {}) for i, (adapter, _) in enumerate(requests)]
    done = subprocess.run([t.flux1, "generate", *t.model, "--jsonl", "--dtype", "f32", *CARDS, "--cache", c.path], env=t.env, capture_output=True, text=True,
                          timeout=120, input="".join(json.dumps(line) + "\n" for line in lines))
    t.nothing_left()
    assert done.returncode == 0 and done.stderr.count("no card has run this yet") == 1, done.stderr
    for i, (_, like) in enumerate(requests):
        close(f"request {i}", t.path(f"own-{i}.png"), t.path(like), 1)


def main():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # entries are written through to a disk
    with tempfile.TemporaryDirectory(dir=memory) as room:
        t = Test(sys.argv[1], os.path.abspath(sys.argv[2]), room)
        t.request = ("--prompt", "a red fox", "--seed", "5", "--steps", "1")
        for test in (entries_are_found_by_content, damaged_entries_are_made_again, an_entry_that_goes_comes_again, what_cannot_be_stored_is_told_once, killed_and_at_once,
                     one_pool_packs_all, adapters_are_in_the_weights):
            began = time.monotonic()
            test(t)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
