"""Planted mistakes: each must be refused, by the vendor's library in mock mode or by the worker's own assertions.

usage: mistakes.py RECORDING        of FLUX.1 on a mesh with sp and tp above 1; mock.sh makes it and names the cluster
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/ttnn")]
import flux1_ttnn as worker

LINES = 40  # of a step: the first joint block up to its first sum over ranks


class Changed:
    """A module or object, some of whose members are others."""

    def __init__(self, whole, **members):
        self.whole, self.members = whole, members

    def __getattr__(self, name):
        return self.members[name] if name in self.members else getattr(self.whole, name)


def with_arguments(function, **changes):
    return lambda *a, **k: function(*a, **(k | {name: change(k[name]) for name, change in changes.items()}))


def blocks_beyond_l1(m):
    m.t = Changed(m.t, MinimalMatmulConfig=with_arguments(m.t.MinimalMatmulConfig, M_block_size=lambda _: 32, K_block_size=lambda _: 32, N_block_size=lambda _: 32))


def weight_with_other_inputs(m):
    for w in m.weights.values():
        if w["role"] == "qkv":
            w["matrix"] = m.empty([w["cols"] + 32, w["rows"]], m.weight_dtype)
            return


def short_gather_buffer(m):
    usual = m.buffer
    m.buffer = lambda *key: usual("short", *key[1:-1], (*key[-1][:2], key[-1][2] // 2, key[-1][3])) if key[0] == "keys" else usual(*key)


def more_tokens_than_there_are(m):
    ring = with_arguments(m.t.transformer.ring_joint_scaled_dot_product_attention, logical_n=lambda n: 2 * n)
    m.t = Changed(m.t, transformer=Changed(m.t.transformer, ring_joint_scaled_dot_product_attention=ring))


def attention_on_the_exchange_s_cores(m):
    m.t = Changed(m.t, SDPAProgramConfig=with_arguments(m.t.SDPAProgramConfig, compute_with_storage_grid_size=lambda _: m.grid))


def one_semaphore(m):
    m.semaphores = {key: [one[:1] for one in sets] if key[0] == "gather" else sets for key, sets in m.semaphores.items()}


def more_links_than_there_are(m):
    m.links = 5


def first_buffer_of_one_batch(m):
    usual = m.buffer
    m.buffer = lambda *key: usual("one batch", *key[1:-1], (1, *key[-1][1:])) if key[0] == "sums" else usual(*key)


def chunk_of_4096_keys(m):
    usual = worker.chunk_of
    worker.chunk_of = lambda rows, most: 4096 if most == 512 else usual(rows, most)


def other_height(m):
    m.t = Changed(m.t, conv2d=with_arguments(m.t.conv2d, input_height=lambda n: 2 * n))


def other_bias(m):
    m.t = Changed(m.t, conv2d=with_arguments(m.t.conv2d, bias_tensor=lambda b: m.t.zeros([1, 1, 1, b.shape[3] + 32], dtype=b.dtype, layout=b.layout)))


def filter_of_other_inputs(m):
    usual = m.source.host_weight
    m.source = Changed(m.source, host_weight=lambda w, bias, shape, dtype: usual(w, bias, shape if bias else [shape[0], shape[1] + 32, 3, 3], dtype))


def edges_of_half_the_devices(m):
    usual = m.buffer
    m.buffer = lambda *key: usual("short", *key[1:-1], (*key[-1][:2], key[-1][2] // 2, key[-1][3])) if key[0] == "gather" else usual(*key)


def edges_in_tiles(m):
    usual = m.buffer
    m.buffer = lambda *key: usual(*(m.t.TILE_LAYOUT if k == m.t.ROW_MAJOR_LAYOUT else k for k in key))


def causal_and_a_mask(m):
    usual = m.t.transformer.scaled_dot_product_attention
    masked = with_arguments(usual, attn_mask=lambda _: m.empty([1, 1, 80, 80]))
    m.t = Changed(m.t, transformer=Changed(m.t.transformer, scaled_dot_product_attention=masked))


MISTAKES = {  # of a step, and what the message has to name
    blocks_beyond_l1: "beyond max L1 size", weight_with_other_inputs: "inner dimensions", short_gather_buffer: "gather dim 2 too small",
    more_tokens_than_there_are: "Logical sequence length", attention_on_the_exchange_s_cores: "coregrid overlaps", one_semaphore: "requires 2 semaphores",
    more_links_than_there_are: "link index 2 is out of bounds", first_buffer_of_one_batch: "the intermediate buffer", chunk_of_4096_keys: "attention chunks",
}

VAE_MISTAKES = {
    other_height: "must be large enough", other_bias: "same length as output channels", filter_of_other_inputs: "the weights of a convolution",
    edges_of_half_the_devices: "the buffer of a gather", edges_in_tiles: "the buffer of a gather",
}
CLIP_MISTAKES = {causal_and_a_mask: "cannot both be present"}


def refused(mapper, name, lines):
    """What was said; None if it was accepted."""
    try:
        mapper.run(name, lines)
    except (worker.Refused, RuntimeError) as e:
        said = " ".join(str(e).split("backtrace:")[0].split())
        return said.partition("info: ")[2] or said
    return None


def up_to(lines, call):
    return lines[: next(i for i, line in enumerate(lines) if line.call == call) + 1]


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        recording = worker.Recording(f)
    ttnn = worker.library()
    device = worker.open_mesh(ttnn, recording.mesh)
    step = recording.stages["dit.step"][:LINES]
    while step[-1].call != "reduce_rows":
        step.pop()
    wrong = []
    for name, lines, before, mistakes in (("dit.step", step, ("dit.open",), MISTAKES), ("vae", up_to(recording.stages["vae"], "norm_conv"), (), VAE_MISTAKES),
                                          ("clip", up_to(recording.stages["clip"], "attention"), (), CLIP_MISTAKES)):
        for mistake in (None, *mistakes):
            chunk_of = worker.chunk_of
            mapper = worker.Mapper(recording, ttnn, device, 1, ttnn.bfloat8_b, worker.Nothing(ttnn, device))
            for stage in before:
                mapper.run(stage, recording.stages[stage])
            if mistake:
                mistake(mapper)
            said = refused(mapper, name, lines)
            worker.chunk_of = chunk_of
            called = mistake.__name__ if mistake else f"no mistake in {name}"
            print(f"{called}: {said[:150] if said else 'accepted'}", flush=True)
            if said and (mistake is None or mistakes[mistake] not in said):
                wrong.append(f"{called}: it was refused for something else: {said}")
            elif mistake and not said:
                wrong.append(f"{called}: it was accepted")
            del mapper
    if wrong:
        sys.exit("FAILED: " + "\n".join(wrong))


if __name__ == "__main__":
    main()
