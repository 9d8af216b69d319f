/* The transformer: BFL's names (flux1-dev.safetensors, Comfy, GGUF) to diffusers'. (diffusers:
 * scripts/convert_flux_to_diffusers.py) */
#include "weights/names.h"

static const name_row rows[] = {
    {"img_in", "x_embedder", 0, 1, 1, NAME_PLAIN},
    {"txt_in", "context_embedder", 0, 1, 1, NAME_PLAIN},
    {"time_in.in_layer", "time_text_embed.timestep_embedder.linear_1", 0, 1, 1, NAME_PLAIN},
    {"time_in.out_layer", "time_text_embed.timestep_embedder.linear_2", 0, 1, 1, NAME_PLAIN},
    {"vector_in.in_layer", "time_text_embed.text_embedder.linear_1", 0, 1, 1, NAME_PLAIN},
    {"vector_in.out_layer", "time_text_embed.text_embedder.linear_2", 0, 1, 1, NAME_PLAIN},
    {"guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1", 0, 1, 1, NAME_PLAIN},
    {"guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_mod.lin", "transformer_blocks.#.norm1.linear", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.qkv", "transformer_blocks.#.attn.to_q", 0, 1, 3, NAME_PLAIN},
    {"double_blocks.#.img_attn.qkv", "transformer_blocks.#.attn.to_k", 1, 1, 3, NAME_PLAIN},
    {"double_blocks.#.img_attn.qkv", "transformer_blocks.#.attn.to_v", 2, 1, 3, NAME_PLAIN},
    {"double_blocks.#.img_attn.norm.query_norm.scale", "transformer_blocks.#.attn.norm_q.weight", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.norm.query_norm", "transformer_blocks.#.attn.norm_q", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.norm.key_norm.scale", "transformer_blocks.#.attn.norm_k.weight", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.norm.key_norm", "transformer_blocks.#.attn.norm_k", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.proj", "transformer_blocks.#.attn.to_out.0", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_mlp.0", "transformer_blocks.#.ff.net.0.proj", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_mlp.2", "transformer_blocks.#.ff.net.2", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_mod.lin", "transformer_blocks.#.norm1_context.linear", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv", "transformer_blocks.#.attn.add_q_proj", 0, 1, 3, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv", "transformer_blocks.#.attn.add_k_proj", 1, 1, 3, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv", "transformer_blocks.#.attn.add_v_proj", 2, 1, 3, NAME_PLAIN},
    {"double_blocks.#.txt_attn.norm.query_norm.scale", "transformer_blocks.#.attn.norm_added_q.weight", 0, 1, 1,
     NAME_PLAIN},
    {"double_blocks.#.txt_attn.norm.query_norm", "transformer_blocks.#.attn.norm_added_q", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.norm.key_norm.scale", "transformer_blocks.#.attn.norm_added_k.weight", 0, 1, 1,
     NAME_PLAIN},
    {"double_blocks.#.txt_attn.norm.key_norm", "transformer_blocks.#.attn.norm_added_k", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.proj", "transformer_blocks.#.attn.to_add_out", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_mlp.0", "transformer_blocks.#.ff_context.net.0.proj", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_mlp.2", "transformer_blocks.#.ff_context.net.2", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.modulation.lin", "single_transformer_blocks.#.norm.linear", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.linear1", "single_transformer_blocks.#.attn.to_q", 0, 1, 7, NAME_PLAIN},
    {"single_blocks.#.linear1", "single_transformer_blocks.#.attn.to_k", 1, 1, 7, NAME_PLAIN},
    {"single_blocks.#.linear1", "single_transformer_blocks.#.attn.to_v", 2, 1, 7, NAME_PLAIN},
    {"single_blocks.#.linear1", "single_transformer_blocks.#.proj_mlp", 3, 4, 7, NAME_PLAIN},
    {"single_blocks.#.linear2", "single_transformer_blocks.#.proj_out", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.norm.query_norm.scale", "single_transformer_blocks.#.attn.norm_q.weight", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.norm.query_norm", "single_transformer_blocks.#.attn.norm_q", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.norm.key_norm.scale", "single_transformer_blocks.#.attn.norm_k.weight", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.norm.key_norm", "single_transformer_blocks.#.attn.norm_k", 0, 1, 1, NAME_PLAIN},
    {"final_layer.linear", "proj_out", 0, 1, 1, NAME_PLAIN},
    {"final_layer.adaLN_modulation.1", "norm_out.linear", 0, 1, 1, NAME_SWAPPED},
};

static const char *const prefixes[] = {
    "model.diffusion_model.", "diffusion_model.", "transformer.", "model.", "", NULL};
static const char *const signs[] = {"img_in.weight", "x_embedder.weight", "double_blocks.0.img_attn.qkv.weight",
                                    "transformer_blocks.0.attn.to_q.weight", NULL};

const name_map names_transformer = {
    .title = "transformer", .prefixes = prefixes, .signs = signs, .row = rows, .rows = sizeof rows / sizeof *rows};
