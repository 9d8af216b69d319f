"""The worker's calls, made in numpy (numpy_ttnn.py), give what flux1 gives: CLIP's vector, T5's embeddings, the latents of every
step and the pixels, on meshes.

usage: same_numbers.py FLUX1 PIPELINE        exit 77: this Python has no numpy, or this flux1 does not record
"""
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/ttnn")]
import flux1_ttnn as worker
import numpy_ttnn

SAME = 1e-5  # relative L2
PROMPT, SEED, STEPS = "a red fox beside a blue house", 5, 2
FOLDERS = {"clip": "text_encoder", "t5": "text_encoder_2", "dit": "transformer", "vae": "vae"}
RUNS = (((128, 144, 64), ("1x1sp0tp1",)), ((128, 128, 64), ("1x1sp0tp1", "1x2sp0tp1", "2x1sp0tp1")), ((256, 128, 128), ("2x2sp0tp1", "2x2sp1tp0")),
        ((88, 184, 72), ("2x1sp0tp1", "2x2sp0tp1", "2x2sp1tp0", "4x8sp0tp1")))  # width, height, T5 tokens; of the last ones tokens and rows are not shared evenly
HEADS_FOR_NONE = ("4x8sp0tp1",)  # where some devices have no tokens, and most no heads: CLIP and the VAE alone


def safetensors(path):
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
        data = f.read()
    kinds = {"F32": np.float32, "I32": np.int32, "F16": np.float16, "BF16": np.uint16}
    out = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            values = np.frombuffer(data[begin:end], kinds[t["dtype"]])
            if t["dtype"] == "BF16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            out[name] = values.reshape(t["shape"])
    return out


def folder(path):
    return {k: v for name in sorted(os.listdir(path)) if name.endswith(".safetensors") for k, v in safetensors(os.path.join(path, name)).items()}


def sinusoids(x):
    """[1, 256]: cosines, then sines."""
    angles = x * np.exp(-np.log(10000) * np.arange(128) / 128)
    return np.concatenate([np.cos(angles), np.sin(angles)])[None].astype(np.float32)


class Values:
    """Weights of a folder's files and the inputs of a run."""

    def __init__(self, recording, pipeline, dump):
        self.r, self.mesh, self.dump = recording, recording.mesh, dump
        self.tensors = {part: folder(os.path.join(pipeline, name)) for part, name in FOLDERS.items()}
        self.config = {part: json.load(open(os.path.join(pipeline, name, "config.json"))) for part, name in FOLDERS.items()}
        self.ranks = self.mesh.sp * self.mesh.tp
        self.part = "clip"

    def placed(self, by_rank):
        """Ranks in the order of devices, which is along the mesh's rows."""
        grid = np.arange(self.ranks).reshape(self.mesh.shape)
        order = [None] * self.ranks
        for place in np.ndindex(*self.mesh.shape):
            sp = place[self.mesh.sp_axis] if self.mesh.sp > 1 else 0
            tp = place[self.mesh.tp_axis] if self.mesh.tp > 1 else 0
            order[grid[place]] = by_rank[sp * self.mesh.tp + tp]
        return numpy_ttnn.Tensor(order)

    def host_weight(self, w, bias, shape, dtype):
        """The same on all ranks."""
        rows = self.by_rank(w, bias)
        assert all(np.array_equal(rows[0], other) for other in rows)
        return numpy_ttnn.Tensor([rows[0].reshape(shape)], dtype, numpy_ttnn.ROW_MAJOR_LAYOUT, host=True)

    def weight(self, w, bias, shape, dtype, layout):
        turned = w["role"] != "table" or bias
        out = self.placed([x.T if turned else x for x in self.by_rank(w, bias)])
        out.dtype, out.layout = dtype, layout
        assert out.shape == list(shape), (out.shape, shape)
        return out

    def by_rank(self, w, bias):
        rows, cols = w["rows"], 1 if bias else w["cols"]
        out = [np.zeros((rows, cols), np.float32) for _ in range(self.ranks)]
        for line in w["pieces"]:
            if (line.keys.get("of_bias", "0") == "1") != bias:
                continue
            k = {key: worker.values_of(line.keys.get(key, "0"), self.mesh) for key in ("from_row", "from_col", "rows", "cols", "row", "col")}
            tensor = self.tensors[self.part][line.keys["tensor"]].astype(np.float32)
            matrix = tensor.reshape(tensor.shape[0], -1)
            for r in line.ranks or range(self.ranks):
                from_row, from_col, height, width, row, col = (k[key][r] for key in ("from_row", "from_col", "rows", "cols", "row", "col"))
                out[r][row : row + height, col : col + width] = matrix[from_row : from_row + height, from_col : from_col + width]
        return out

    def whole(self, name):
        d, p = self.dump, self.r.picture
        if name in ("clip.ids", "t5.ids"):
            return d[name.replace("ids", "input_ids")].reshape(-1, 1).astype(np.float32)
        if name == "clip.pooled_row":  # the first end of text
            return np.array([[list(d["clip.input_ids"].ravel()).index(self.config["clip"]["eos_token_id"])]], np.float32)
        if name == "latent_plane":
            return self.latent_plane()
        if name == "prompt_embeds":
            return d["prompt_embeds"][0]
        if name == "pooled":
            return d["pooled_prompt_embeds"].reshape(1, -1)
        sigmas = d["sigmas"].astype(np.float32)
        if name == "time":
            return np.concatenate([sinusoids(np.float64(s) * 1000) for s in sigmas[:-1]])
        if name == "guidance":
            return sinusoids(np.float64(self.r.head["guidance"]) * 1000)
        if name == "dsigma":
            return (sigmas[1:] - sigmas[:-1])[:, None]
        return d["noise"][0]

    def latent_plane(self):
        """Tokens are cells of 2×2 latents, channel by channel."""
        vae, grid = self.config["vae"], self.r.picture["width"] // self.pixels()
        cells = self.dump[f"latents.{STEPS}"][0].reshape(-1, grid, vae["latent_channels"], 2, 2)
        return cells.transpose(0, 3, 1, 4, 2).reshape(-1, vae["latent_channels"]) / vae["scaling_factor"] + vae["shift_factor"]

    def bias(self, first, heads, tokens):
        """T5's relative bias, key − query in buckets (Raffel et al., and transformers' _relative_position_bucket, both directions)."""
        c = self.config["t5"]
        table = self.tensors["t5"]["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        distance = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
        half = c["relative_attention_num_buckets"] // 2
        exact, most = half // 2, c.get("relative_attention_max_distance", 128)
        size = np.abs(distance)
        far = exact + (np.log(np.maximum(size, 1) / exact) / np.log(most / exact) * (half - exact)).astype(int)
        bucket = (distance > 0) * half + np.where(size < exact, size, np.minimum(far, half - 1))
        return table[bucket].transpose(2, 0, 1)[None, first : first + heads].astype(np.float32)

    def rope(self, name, first, rows):
        """Cosines or sines of a part's positions, each twice."""
        axes, grid = self.config["dit"]["axes_dims_rope"], self.r.picture["width"] // self.pixels()
        at = np.arange(first, first + rows)
        ids = [np.zeros(rows)] * 3 if ".text" in name else [np.zeros(rows), at // grid, at % grid]
        angles = np.concatenate([np.outer(p, 1 / 10000 ** (np.arange(0, n, 2) / n)) for p, n in zip(ids, axes)], 1)
        return np.repeat(np.cos(angles) if name.endswith("cosines") else np.sin(angles), 2, 1)[None, None].astype(np.float32)

    def pixels(self):
        tokens = self.dump["noise"].shape[1]
        return int(round((self.r.picture["width"] * self.r.picture["height"] / tokens) ** 0.5))

    def input(self, name, line, shape, dtype, layout):
        rows = shape[-1] if dtype == numpy_ttnn.uint32 else shape[1] if name == "t5.bias" else shape[2]
        first = worker.firsts(line, self.mesh, rows)
        if name.startswith("rope."):
            out = [self.rope(name, f, shape[2]) for f in first]
        elif name == "t5.bias":
            out = [self.bias(f, shape[1], shape[2]) for f in first]
        else:
            whole = self.whole(name)
            filled = np.concatenate([whole, np.zeros((rows, whole.shape[1]), np.float32)])  # smaller shares of the last ranks
            out = [filled[min(f, len(whole)) :][:rows].reshape(shape) for f in first]
        got = self.placed(out)
        got.dtype, got.layout = dtype, layout
        assert got.shape == list(shape), (name, got.shape, shape)
        return got


def relative(got, truth):
    return float(np.linalg.norm(got.astype(np.float64) - truth) / np.linalg.norm(truth))


def hold(what, got, truth):
    error = relative(got, truth)
    print(f"{what}: {error:.1e}")
    if not error < SAME:
        sys.exit(f"FAILED: {what} is off by {error:.2e}")


def sizes(size):
    return ["--width", str(size[0]), "--height", str(size[1]), "--steps", str(STEPS), "--max-sequence-length", str(size[2])]


def check_mesh(flux1, pipeline, dump, size, shape, room):
    path = os.path.join(room, "rec")
    subprocess.run([flux1, "plan", "--model", pipeline, "--machine", "wh-t3k", "--mesh", shape, *sizes(size), "--record", path], check=True, stdout=subprocess.DEVNULL)
    with open(path, encoding="utf-8") as f:
        recording = worker.Recording(f)
    numpy_ttnn.device = numpy_ttnn.Device(recording.mesh.shape)
    values = Values(recording, pipeline, dump)
    mapper = worker.Mapper(recording, numpy_ttnn, numpy_ttnn.device, 1, numpy_ttnn.bfloat16, values)
    mapper.run("clip", recording.stages["clip"])
    hold(f"{shape} pooled", mapper.result.v[0].ravel(), dump["pooled_prompt_embeds"][0])
    if shape not in HEADS_FOR_NONE:
        check_transformers(mapper, recording, values, dump, shape)
    values.part = "vae"
    mapper.run("vae", recording.stages["vae"])
    hold(f"{shape} pixels", mapper.result.v[0][0, 0].T.reshape(dump["decoded"][0].shape), dump["decoded"][0])
    return mapper


def check_transformers(mapper, recording, values, dump, shape):
    values.part = "t5"
    mapper.run("t5", recording.stages["t5"])
    hold(f"{shape} prompt_embeds", mapper.result.v[0].reshape(dump["prompt_embeds"][0].shape), dump["prompt_embeds"][0])
    values.part = "dit"
    mapper.run("dit.open", recording.stages["dit.open"])
    for step in range(STEPS):
        mapper.at_step(step)
        mapper.run("dit.step", recording.stages["dit.step"])
        mapper.run("dit.latent", recording.stages["dit.latent"])
        hold(f"{shape} latents.{step + 1}", mapper.result.v[0][0, 0], dump[f"latents.{step + 1}"][0])


def small_shares(mapper):
    """Sums whose rows are shared by less than a tile each, on a 2x2 mesh: FLUX.1's prompt on a Galaxy."""
    random = np.random.default_rng(3)
    x = numpy_ttnn.Tensor([random.standard_normal((1, 1, 32, 64)).astype(np.float32) for _ in range(4)])
    got = mapper.summed(x, 1, 2, worker.Line(1, None, "reduce_rows", {}))
    for rank in range(4):
        pair = x.v[rank // 2 * 2] + x.v[rank // 2 * 2 + 1]
        hold(f"share {rank}", got.v[rank], pair[:, :, rank % 2 * 16 : rank % 2 * 16 + 16])


def main():
    flux1, pipeline = sys.argv[1:]
    if "--record" not in subprocess.run([flux1, "plan", "--help"], capture_output=True, text=True).stdout:
        print("skipped: this flux1 does not record")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as room:
        path = os.path.join(room, "dump.safetensors")
        for size, shapes in RUNS:
            subprocess.run([flux1, "generate", "--model", pipeline, "--prompt", PROMPT, "--seed", str(SEED), *sizes(size), "--dtype", "f32", "--dump", path,
                            "--output", os.path.join(room, "a.png"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
            dump = safetensors(path)
            for shape in shapes:
                mapper = check_mesh(flux1, pipeline, dump, size, shape, room)
                if shape == "2x2sp0tp1":
                    small_shares(mapper)


if __name__ == "__main__":
    main()
