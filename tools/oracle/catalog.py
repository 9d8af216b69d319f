"""The committed pipelines and the cases run on each. What every one is there for stands beside it."""
from record import Case
from tiny import Spec

CAR = "a red car on a yellow background"
SCRIPTS = "猫 и кошка, قطة, बिल्ली, 고양이, γάτα, ñandú, 日本語テキスト"
EMOJI = "🙂🚀 two owls at night 👨‍👩‍👧 №5"
LONG = "An oil painting of a tall castle on a hill at night, highly detailed, and a small red fox near the river, " * 12
SPECIAL = "a cat<|endoftext|> and a </s> dog <extra_id_3>"


def clip(hidden, heads, mlp, layers=2, positions=77, eos=2, **more):
    return {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": mlp, "num_hidden_layers": layers, "max_position_embeddings": positions,
            "eos_token_id": eos, **more}


def t5(model, heads, key, ff, layers=2, **more):
    return {"d_model": model, "num_heads": heads, "d_kv": key, "d_ff": ff, "num_layers": layers, **more}


def dit(channels, double, single, heads, axes, joint, pooled, guidance):
    return {"in_channels": channels, "num_layers": double, "num_single_layers": single, "attention_head_dim": sum(axes), "num_attention_heads": heads,
            "joint_attention_dim": joint, "pooled_projection_dim": pooled, "axes_dims_rope": axes, "guidance_embeds": guidance}


def vae(channels, layers, latent, groups, sample, **more):
    return {"block_out_channels": channels, "layers_per_block": layers, "latent_channels": latent, "norm_num_groups": groups, "sample_size": sample, **more}


QUANT = {"use_quant_conv": True, "use_post_quant_conv": True}
DYNAMIC = {"use_dynamic_shifting": True, "shift": 3.0}
ALL_BF16 = dict.fromkeys(("text_encoder", "text_encoder_2", "transformer", "vae"), "BF16")


def pipelines():
    """[(Spec, [Case], what stages.safetensors records)]: `grid` tokens high and wide, the encoder's `image_size` (height, width), and with `vae_levels` all VAE levels."""
    return [
        (Spec("schnell", seed=1, clip=clip(16, 2, 32), t5=t5(16, 2, 8, 32),          # no guidance, no shift, f32, FLUX's four VAE levels; real tokenizer files
              dit=dit(64, 1, 2, 2, (4, 6, 6), 16, 16, False), vae=vae((4, 8, 8, 8), 2, 16, 4, 64), scheduler={"shift": 1.0},
              t5_length=256, copy_tokenizers=True, t5_tokenizer="t5_json"),
         [Case("car", CAR, 64, 64, 4, seed=0, length=77, embeds=True, hidden=True, bf16=True),
          Case("tall", EMOJI, 64, 256, 1, seed=7, guidance=7.0, length=256, decoded=False),
          Case("empty", "", 80, 48, 2, seed=2 ** 33 + 5, length=512, embeds=True),
          Case("long", LONG, 48, 48, 5, seed=3, length=128, bf16=True),
          Case("rounded", SCRIPTS, 100, 75, 1, seed=11, length=32),
          Case("tiled", CAR, 112, 96, 1, seed=13, length=32, tiled=True)],           # tiles of 8, 8 and 2 latents by 8 and 6
         {"grid": (3, 2), "image_size": (37, 29), "vae_levels": True}),
        (Spec("dev", seed=2, clip=clip(16, 4, 40, layers=3), t5=t5(24, 3, 8, 40, layers=3),  # guidance, dynamic shift, bf16, sharded DiT and T5
              dit=dit(64, 2, 1, 3, (4, 4, 4), 24, 16, True), vae=vae((8, 8, 8, 16), 1, 16, 8, 128), scheduler=DYNAMIC,
              dtype=ALL_BF16, shards={"transformer": "100KB", "text_encoder_2": "25KB"}),
         [Case("large", EMOJI, 208, 144, 5, seed=42, guidance=2.25, length=77, bf16=True, decoded=False),
          Case("long", LONG, 64, 64, 2, seed=1, guidance=0.0, length=512, embeds=True, bf16=True),
          Case("scripts", SCRIPTS, 48, 80, 3, seed=2 ** 40 + 1, guidance=7.0, length=256, bf16=True),
          Case("special", SPECIAL, 32, 48, 1, seed=9, guidance=1.0, length=128)],
         {"grid": (2, 3), "image_size": (48, 32)}),
        (Spec("mixed", seed=3, clip=clip(24, 3, 40, positions=40, eos="end"),          # a dtype each, T5 inner ≠ d_model, other buckets, quant convs, no shift
              t5=t5(20, 3, 12, 28, relative_attention_num_buckets=16, relative_attention_max_distance=64),
              dit=dit(16, 1, 1, 5, (2, 2, 4), 20, 24, False), vae=vae((8, 8, 16), 1, 4, 8, 96, scaling_factor=0.18215, shift_factor=None, **QUANT),
              scheduler={"shift": 3.0}, dtype={"text_encoder_2": "F16", "transformer": "BF16"}, clip_length=40, t5_length=128),
         [Case("car", CAR, 40, 56, 3, seed=5, length=77, embeds=True, hidden=True, bf16=True),
          Case("special", SPECIAL, 56, 24, 2, seed=6, length=512),
          Case("long", LONG, 24, 24, 4, seed=8, length=256, embeds=True)],
         {"grid": (2, 5), "image_size": (23, 50), "vae_levels": True}),
        (Spec("single", seed=4, clip=clip(16, 1, 24, layers=1, eos=3), t5=t5(16, 5, 4, 24, layers=1),   # no double block; head 64; 1 latent channel; EOS id absent
              dit=dit(4, 0, 2, 1, (16, 24, 24), 16, 16, True), vae=vae((6, 10), 3, 1, 2, 48, scaling_factor=1.5, shift_factor=-0.25),
              scheduler=DYNAMIC, dtype={"transformer": "F16", "vae": "BF16"}, t5_length=77),
         [Case("fox", "a small fox", 48, 80, 2, seed=12, guidance=2.25, length=77, bf16=True),
          Case("empty", "", 20, 12, 5, seed=0, guidance=0.0, length=32, embeds=True)],
         {"grid": (4, 3), "image_size": (19, 18), "vae_levels": True}),
        (Spec("double", seed=5, clip=clip(32, 4, 48, layers=1), t5=t5(16, 2, 12, 20),     # no single block; 7 heads of 6; 5 VAE levels; other shift constants
              dit=dit(64, 2, 0, 7, (2, 2, 2), 16, 32, False), vae=vae((4, 4, 8, 8, 8), 1, 16, 4, 96, shift_factor=0.0),
              scheduler={**DYNAMIC, "base_shift": 0.3, "max_shift": 0.9, "base_image_seq_len": 16, "max_image_seq_len": 1024},
              dtype={"text_encoder": "F16", "transformer": "BF16", "vae": "F16"}, t5_length=32),
         [Case("night", EMOJI, 96, 64, 4, seed=2 ** 62 + 17, length=77, bf16=True),
          Case("rounded", SCRIPTS, 70, 40, 2, seed=4, length=32)],
         {"grid": (1, 2), "image_size": (64, 33)}),
        (Spec("wide", seed=6, clip=clip(20, 5, 36, positions=64, layer_norm_eps=1e-4),      # one head of 40; 8 latent channels; tokenizer shorter than the positions
              t5=t5(12, 1, 16, 24, layers=4, relative_attention_num_buckets=20, relative_attention_max_distance=50, layer_norm_epsilon=1e-5),
              dit=dit(32, 1, 1, 1, (8, 16, 16), 12, 20, True), vae=vae((8, 8, 8, 8), 1, 8, 8, 64, use_quant_conv=True, use_post_quant_conv=False),
              scheduler={"shift": 3.0}, dtype={"transformer": "BF16", "vae": "BF16"}, clip_length=48),
         [Case("long", LONG, 48, 48, 3, seed=21, guidance=7.0, length=256, embeds=True, bf16=True),
          Case("tall", CAR, 32, 128, 1, seed=22, guidance=1.0, length=77)],
         {"grid": (2, 2), "image_size": (40, 40)}),
        (Spec("patchwork", seed=7, clip=clip(24, 2, 32, eos="end"), t5=t5(16, 4, 4, 24),   # all dtypes inside one file; 2 heads of 20; static shift with guidance
              dit=dit(64, 1, 1, 2, (4, 8, 8), 16, 24, True), vae=vae((4, 8, 12), 2, 16, 2, 64, use_quant_conv=False, use_post_quant_conv=True, shift_factor=0.05),
              scheduler={"shift": 1.7}, dtype=dict.fromkeys(("text_encoder", "text_encoder_2", "transformer", "vae"), "MIXED"),
              shards={"transformer": "150KB", "vae": "40KB"}, t5_length=64),
         [Case("owls", "two owls at night", 40, 24, 4, seed=33, guidance=2.25, length=64, embeds=True, bf16=True),
          Case("emoji", EMOJI, 24, 64, 1, seed=34, guidance=0.0, length=512),
          Case("tiled", EMOJI, 80, 24, 2, seed=35, guidance=1.0, length=64, tiled=True)],
         {"grid": (3, 3), "image_size": (24, 16)}),
    ]


# <pipeline>/cfg: two passes a step where the scale is above 1 and there is a negative prompt, one otherwise. bf16 where 1000·sigma and 1000·guidance stay exact
# in bf16, at least in the first step.
UNWANTED = "blurry, grey, a blue car"
CFG = {
    "schnell": [Case("one", CAR, 48, 32, 2, seed=51, length=24, decoded=False, negative=UNWANTED, scale=1.0),           # one pass
                Case("none", CAR, 32, 48, 2, seed=52, length=24, decoded=False, scale=4.0),                             # one pass
                Case("empty", EMOJI, 64, 48, 3, seed=53, length=40, embeds=True, negative="", scale=2.5),
                Case("words", CAR, 32, 80, 4, seed=54, length=77, embeds=True, negative=SCRIPTS, scale=4.0),
                Case("bf16", CAR, 48, 64, 2, seed=55, length=32, embeds=True, bf16=True, negative=UNWANTED, scale=2.5)],
    "dev": [Case("one", EMOJI, 32, 48, 2, seed=61, guidance=2.25, length=24, decoded=False, negative="", scale=1.0),    # one pass
            Case("words", CAR, 64, 48, 3, seed=62, guidance=3.5, length=40, embeds=True, negative=UNWANTED, scale=2.5),
            Case("empty", SCRIPTS, 48, 80, 4, seed=63, guidance=0.0, length=77, embeds=True, negative="", scale=4.0),
            Case("bf16", CAR, 48, 32, 2, seed=64, guidance=2.0, length=32, embeds=True, bf16=True, negative=SCRIPTS, scale=4.0)],
    "mixed": [Case("below", CAR, 40, 24, 2, seed=71, length=24, decoded=False, negative=UNWANTED, scale=0.5),           # one pass
              Case("empty", CAR, 40, 24, 3, seed=72, length=40, embeds=True, negative="", scale=4.0),
              Case("long", CAR, 24, 56, 2, seed=73, length=32, embeds=True, bf16=True, negative=LONG, scale=2.5)],      # both tokenizers cut the negative prompt
}

# <pipeline>/batch: rows that differ in all that a row may have of its own.
ROWS = (CAR, EMOJI, "")
BATCHES = {
    "schnell": [Case("rows", ROWS, 48, 32, 3, seed=(0, 7, 2 ** 33 + 5), guidance=(0.0, 0.0, 0.0), length=40, embeds=True),
                Case("cfg", ROWS, 32, 48, 2, seed=(81, 82, 83), guidance=(0.0, 0.0, 0.0), length=24, embeds=True, negative=("", LONG, UNWANTED), scale=2.5)],
    "dev": [Case("rows", (SCRIPTS, "", LONG), 64, 48, 3, seed=(9, 9, 2 ** 40 + 1), guidance=(3.5, 0.0, 7.0), length=40, embeds=True),
            Case("cfg", ROWS, 48, 32, 2, seed=(91, 92, 91), guidance=(1.0, 3.5, 2.25), length=32, embeds=True, negative=(UNWANTED, "", SCRIPTS), scale=4.0)],
}

MINI_TRIAL = [Case(f"{name}-{seed}", prompt, 128, 128, 4, seed=seed, length=32)
              for name, prompt in (("car", CAR), ("owls", "two owls at night"), ("rocket", "a rocket in space")) for seed in (0, 7)]
MINI_TRIAL.append(Case("rocket-96x160", "a rocket in space", 96, 160, 4, seed=0, length=32))

# models/: trained and committed. The sizes and text lengths that they were trained for, their own steps, words known and unknown (mini_goldens.py).
# bf16 steps are held where torch's rounding of 1000·guidance changes nothing: it makes 3504 of 3500, which can cost more than all arithmetic.
DUCKS, FOX, ROBOT = "two yellow ducks on a beach", "a red fox beside a blue house at night", "a big robot in the city"
MINI = {
    "mini-schnell": [Case("ducks-128x128", DUCKS, 128, 128, 4, seed=0, length=40, embeds=True, bf16=True),
                     Case("fox-96x160", FOX, 96, 160, 4, seed=1, length=64, embeds=True, bf16=True, decoded=False),
                     Case("robot-192x128", ROBOT, 192, 128, 4, seed=2, length=128, embeds=True, bf16=True, decoded=False),
                     Case("unknown-128x128", "猫 🙂 zyzzyva, glücklich", 128, 128, 4, seed=3, length=128, decoded=False),
                     Case("empty-96x160", "", 96, 160, 4, seed=4, length=40, decoded=False),
                     Case("kitten-192x128", "a kitten in a room", 192, 128, 4, seed=5, length=64, decoded=False)],
    "mini-dev": [Case("ducks-128x128", DUCKS, 128, 128, 20, seed=0, guidance=3.5, length=40, decoded=False),
                 Case("fox-96x160", FOX, 96, 160, 20, seed=1, guidance=3.5, length=64, decoded=False),
                 Case("robot-192x128", ROBOT, 192, 128, 20, seed=2, guidance=3.5, length=128, decoded=False),
                 Case("ducks-unguided-128x128", DUCKS, 128, 128, 20, seed=0, guidance=1.0, length=64, bf16=True, decoded=False),
                 Case("robot-unguided-192x128", ROBOT, 192, 128, 20, seed=2, guidance=1.0, length=40, bf16=True, decoded=False)],
}

SCHEDULES = {
    "dynamic": {"use_dynamic_shifting": True, "shift": 3.0},
    "other": {"use_dynamic_shifting": True, "base_shift": 0.3, "max_shift": 0.9, "base_image_seq_len": 16, "max_image_seq_len": 1024},
    "static1": {"shift": 1.0},
    "static3": {"shift": 3.0},
}
SCHEDULE_TOKENS, SCHEDULE_STEPS = (16, 256, 1024, 4096, 5000), (1, 2, 4, 5, 20, 28, 50)
