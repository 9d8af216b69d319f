"""FLUX.1-schnell's parts as diffusers and transformers have them, from a folder of make_model.py, and inputs for
them."""
import torch

T5 = dict(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_heads=64, feed_forward_proj="gated-gelu",
          dense_act_fn="gelu_pytorch_tanh", is_encoder_decoder=False, use_cache=False)
CLIP = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768)
VAE = dict(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
           up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
           latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611,
           shift_factor=0.1159)
FOLDERS = {"dit": "transformer", "t5": "text_encoder_2", "clip": "text_encoder", "vae": "vae"}


def classes():
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5EncoderModel
    return {"dit": FluxTransformer2DModel, "t5": T5EncoderModel, "clip": CLIPTextModel, "vae": AutoencoderKL}


def load(folder, stage, dtype):
    m = classes()[stage].from_pretrained(f"{folder}/{FOLDERS[stage]}", torch_dtype=dtype)
    return m.eval().requires_grad_(False)


def inputs(stage, size, text, dtype):
    side = size // 16
    if stage == "dit":
        ids = torch.zeros(side, side, 3)
        ids[..., 1] += torch.arange(side)[:, None]
        ids[..., 2] += torch.arange(side)[None]
        return dict(hidden_states=torch.randn(1, side * side, 64, dtype=dtype),
                    encoder_hidden_states=torch.randn(1, text, 4096, dtype=dtype),
                    pooled_projections=torch.randn(1, 768, dtype=dtype), timestep=torch.ones(1, dtype=dtype),
                    img_ids=ids.reshape(-1, 3).to(dtype), txt_ids=torch.zeros(text, 3, dtype=dtype))
    if stage == "vae":
        return dict(z=torch.randn(1, 16, size // 8, size // 8, dtype=dtype))
    return dict(input_ids=torch.randint(3, 32000, (1, text if stage == "t5" else 77)))
