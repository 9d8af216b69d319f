"""The parts of the mini FLUX: sizes, fresh weights, and the shapes that pass between them. Diffusers' and transformers' own classes, so export is save_pretrained."""
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

TEXT_LENGTH = 40                    # tokens by default, for both text encoders; T5 is also trained on longer padding
PADDINGS = (40,) * 7 + (64, 96, 128)
CLIP_WIDTH, T5_WIDTH = 64, 128
LATENTS = 16


def tokenizers(folder):
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), T5TokenizerFast.from_pretrained(folder / "tokenizer_2")


def text_encoders(clip_tokens, t5_tokens, seed=0):
    torch.manual_seed(seed)
    end = clip_tokens - 1   # eos_token_id is the last id: transformers' special case for 2 is not met
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=clip_tokens, hidden_size=CLIP_WIDTH, intermediate_size=4 * CLIP_WIDTH, num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu",
                                        max_position_embeddings=TEXT_LENGTH, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, projection_dim=CLIP_WIDTH))
    t5 = T5EncoderModel(T5Config(vocab_size=-(-t5_tokens // 32) * 32, d_model=T5_WIDTH, d_kv=32, d_ff=2 * T5_WIDTH, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
                                 dropout_rate=0.0, is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False))
    return torch.nn.ModuleDict(dict(clip=clip, t5=t5))


def transformer(guidance=False, heads=3, double=2, single=4, seed=0):
    torch.manual_seed(seed)
    dit = FluxTransformer2DModel(patch_size=1, in_channels=4 * LATENTS, num_layers=double, num_single_layers=single, attention_head_dim=64, num_attention_heads=heads,
                                 joint_attention_dim=T5_WIDTH, pooled_projection_dim=CLIP_WIDTH, guidance_embeds=guidance, axes_dims_rope=(8, 28, 28))
    for name, p in dit.named_parameters():  # adaLN-zero: every gate and the output start at nothing
        if ("norm" in name and "linear" in name) or name.startswith("proj_out"):
            torch.nn.init.zeros_(p)
    return dit


def autoencoder(seed=0):
    torch.manual_seed(seed)
    vae = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=(32, 32, 64, 64),
                        layers_per_block=1, latent_channels=LATENTS, norm_num_groups=16, sample_size=128, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.0,
                        shift_factor=0.0, mid_block_add_attention=True)
    torch.nn.init.constant_(vae.encoder.conv_out.bias[LATENTS:], -4.0)
    return vae


def tokenize(toks, captions, length=TEXT_LENGTH):
    """CLIP ids [n, TEXT_LENGTH], T5 ids [n, length]."""
    clip, t5 = toks
    return (clip(captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt").input_ids,
            t5(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids)


def encode_text(text, clip_ids, t5_ids):
    """Sequence [n, tokens, 128] and pooled [n, 64], unmasked as in FluxPipeline."""
    return text["t5"](t5_ids)[0], text["clip"](clip_ids).pooler_output


def velocity(dit, x, t, sequence, pooled, height, width, guidance=None):
    """x [n, tokens, 64] on a grid of height x width tokens, t [n, 1, 1] in [0, 1]."""
    ids = torch.zeros(height, width, 3, device=x.device)
    ids[..., 1] += torch.arange(height, device=x.device)[:, None]
    ids[..., 2] += torch.arange(width, device=x.device)[None]
    return dit(hidden_states=x, encoder_hidden_states=sequence, pooled_projections=pooled, timestep=t.flatten(), img_ids=ids.reshape(-1, 3),
               txt_ids=torch.zeros(sequence.size(1), 3, device=x.device), guidance=guidance, return_dict=False)[0]


def pack(z):
    n, c, h, w = z.shape
    return z.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)
