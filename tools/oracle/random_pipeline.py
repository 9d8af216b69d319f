"""Makes a random odd pipeline, every axis of its configs drawn from the seed: for trying configs that no golden has.

usage: random_pipeline.py OUT --seed N
       compare.py checks a run on it; the tokenizers are copied, so OUT may lie anywhere
"""
import environment
import argparse
import random

import tiny

PARTS = ("text_encoder", "text_encoder_2", "transformer", "vae")


def draw_axes(pick):
    """Three even RoPE widths; their sum is the head size, here 6 to 64."""
    return tuple(2 * n for n in pick.choice([(1, 1, 1), (1, 1, 2), (2, 3, 3), (2, 4, 6), (4, 4, 4), (4, 8, 8), (3, 5, 2), (8, 12, 12)]))


def draw_dit(pick, latent, joint, pooled):
    axes = draw_axes(pick)
    heads = pick.randint(1, max(1, 96 // sum(axes)))
    double, single = pick.choice([(1, 1), (2, 1), (1, 3), (0, 2), (2, 0), (3, 2)])
    return {"in_channels": 4 * latent, "num_layers": double, "num_single_layers": single, "attention_head_dim": sum(axes), "num_attention_heads": heads,
            "joint_attention_dim": joint, "pooled_projection_dim": pooled, "axes_dims_rope": axes, "guidance_embeds": pick.random() < 0.5}


def draw_vae(pick, latent):
    groups = pick.choice([1, 2, 3, 4, 8])
    channels = tuple(groups * pick.randint(1, 3) for _ in range(pick.randint(1, 5)))
    return {"block_out_channels": channels, "layers_per_block": pick.randint(1, 3), "latent_channels": latent, "norm_num_groups": groups,
            "sample_size": 16 * pick.randint(2, 8), "scaling_factor": round(pick.uniform(0.1, 2), 4), "shift_factor": pick.choice([None, 0.0, 0.1159, -0.3]),
            "use_quant_conv": pick.random() < 0.5, "use_post_quant_conv": pick.random() < 0.5}


def draw_clip(pick):
    heads = pick.randint(1, 6)
    return {"hidden_size": heads * pick.choice([4, 6, 8, 16]), "num_attention_heads": heads, "intermediate_size": pick.randint(9, 70),
            "num_hidden_layers": pick.randint(1, 4), "max_position_embeddings": pick.choice([77, 77, 32, 50]), "eos_token_id": pick.choice([2, 2, "end", 7])}


def draw_t5(pick):
    buckets, distance = pick.choice([(32, 128), (32, 128), (16, 64), (8, 20), (64, 256)])
    return {"d_model": pick.randint(4, 40), "num_heads": pick.randint(1, 6), "d_kv": pick.choice([3, 4, 8, 16]), "d_ff": pick.randint(9, 70),
            "num_layers": pick.randint(1, 4), "relative_attention_num_buckets": buckets, "relative_attention_max_distance": distance}


def draw_scheduler(pick):
    if pick.random() < 0.5:
        return {"shift": pick.choice([1.0, 3.0, 1.7])}
    return {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": round(pick.uniform(0.2, 0.8), 3), "max_shift": round(pick.uniform(0.8, 1.6), 3),
            "base_image_seq_len": pick.choice([256, 16]), "max_image_seq_len": pick.choice([4096, 1024])}


def draw(seed):
    pick = random.Random(seed)
    latent, clip, t5 = pick.choice([1, 2, 3, 4, 8, 16]), draw_clip(pick), draw_t5(pick)
    return tiny.Spec(f"random-{seed}", clip=clip, t5=t5, dit=draw_dit(pick, latent, t5["d_model"], clip["hidden_size"]), vae=draw_vae(pick, latent),
                     scheduler=draw_scheduler(pick), dtype={part: pick.choice(["F32", "F16", "BF16", "MIXED"]) for part in PARTS},
                     shards={part: pick.choice(["30KB", "100KB"]) for part in PARTS if pick.random() < 0.3}, clip_length=clip["max_position_embeddings"],
                     t5_length=pick.choice([16, 77, 256, 512]), t5_tokenizer=pick.choice(["t5", "t5_json"]), copy_tokenizers=True, seed=seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    spec = draw(options.seed)
    tiny.build(spec, options.out)
    print(spec)


if __name__ == "__main__":
    main()
