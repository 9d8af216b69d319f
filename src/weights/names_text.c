/* The text encoders: llama.cpp's and city96's names in GGUF files, and CLIP's without "text_model.", to transformers'.
 */
#include "weights/names.h"

/* ---- T5 (llama.cpp: gguf-py constants, T5ENCODER; ComfyUI-GGUF: loader.py, T5_SD_MAP) ---- */

static const name_row t5_rows[] = {
    {"token_embd", "shared", 0, 1, 1, NAME_PLAIN},
    {"enc.output_norm", "encoder.final_layer_norm", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_q", "encoder.block.#.layer.0.SelfAttention.q", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_k", "encoder.block.#.layer.0.SelfAttention.k", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_v", "encoder.block.#.layer.0.SelfAttention.v", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_o", "encoder.block.#.layer.0.SelfAttention.o", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_rel_b", "encoder.block.#.layer.0.SelfAttention.relative_attention_bias", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.attn_norm", "encoder.block.#.layer.0.layer_norm", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.ffn_norm", "encoder.block.#.layer.1.layer_norm", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.ffn_gate", "encoder.block.#.layer.1.DenseReluDense.wi_0", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.ffn_up", "encoder.block.#.layer.1.DenseReluDense.wi_1", 0, 1, 1, NAME_PLAIN},
    {"enc.blk.#.ffn_down", "encoder.block.#.layer.1.DenseReluDense.wo", 0, 1, 1, NAME_PLAIN},
};

static const char *const t5_prefixes[] = {"text_encoders.t5xxl.transformer.",
                                          "text_encoders.t5xxl.",
                                          "t5xxl.transformer.",
                                          "t5xxl.",
                                          "text_encoder_2.",
                                          "transformer.",
                                          "",
                                          NULL};
static const char *const t5_signs[] = {"encoder.block.0.layer.0.SelfAttention.q.weight", "enc.blk.0.attn_q.weight",
                                       NULL};
static const char *const t5_unused[] = {"logit_scale", "spiece_model", NULL};

const name_map names_t5 = {.title = "T5",
                           .prefixes = t5_prefixes,
                           .signs = t5_signs,
                           .row = t5_rows,
                           .rows = sizeof t5_rows / sizeof *t5_rows,
                           .unused = t5_unused};

/* ---- CLIP (clip.cpp's names: its converter took fc1 for ffn_down, later ones for ffn_up) ---- */

static const name_row clip_rows[] = {
    {"t.token_embd", "text_model.embeddings.token_embedding", 0, 1, 1, NAME_PLAIN},
    {"t.position_embd", "text_model.embeddings.position_embedding", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.attn_q", "text_model.encoder.layers.#.self_attn.q_proj", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.attn_k", "text_model.encoder.layers.#.self_attn.k_proj", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.attn_v", "text_model.encoder.layers.#.self_attn.v_proj", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.attn_out", "text_model.encoder.layers.#.self_attn.out_proj", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.ln1", "text_model.encoder.layers.#.layer_norm1", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.ln2", "text_model.encoder.layers.#.layer_norm2", 0, 1, 1, NAME_PLAIN},
    {"t.blk.#.ffn_down", "text_model.encoder.layers.#.mlp.fc1", 0, 1, 1, NAME_TALL},
    {"t.blk.#.ffn_down", "text_model.encoder.layers.#.mlp.fc2", 0, 1, 1, NAME_WIDE},
    {"t.blk.#.ffn_up", "text_model.encoder.layers.#.mlp.fc1", 0, 1, 1, NAME_TALL},
    {"t.blk.#.ffn_up", "text_model.encoder.layers.#.mlp.fc2", 0, 1, 1, NAME_WIDE},
    {"t.post_ln", "text_model.final_layer_norm", 0, 1, 1, NAME_PLAIN},
    {"embeddings.token_embedding", "text_model.embeddings.token_embedding", 0, 1, 1, NAME_PLAIN},
    {"embeddings.position_embedding", "text_model.embeddings.position_embedding", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.self_attn.q_proj", "text_model.encoder.layers.#.self_attn.q_proj", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.self_attn.k_proj", "text_model.encoder.layers.#.self_attn.k_proj", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.self_attn.v_proj", "text_model.encoder.layers.#.self_attn.v_proj", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.self_attn.out_proj", "text_model.encoder.layers.#.self_attn.out_proj", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.layer_norm1", "text_model.encoder.layers.#.layer_norm1", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.layer_norm2", "text_model.encoder.layers.#.layer_norm2", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.mlp.fc1", "text_model.encoder.layers.#.mlp.fc1", 0, 1, 1, NAME_PLAIN},
    {"encoder.layers.#.mlp.fc2", "text_model.encoder.layers.#.mlp.fc2", 0, 1, 1, NAME_PLAIN},
    {"final_layer_norm", "text_model.final_layer_norm", 0, 1, 1, NAME_PLAIN},
};

static const char *const clip_prefixes[] = {"text_encoders.clip_l.transformer.",
                                            "clip_l.transformer.",
                                            "text_encoders.clip_l.",
                                            "clip_l.",
                                            "cond_stage_model.transformer.",
                                            "conditioner.embedders.0.transformer.",
                                            "text_encoder.",
                                            "clip.",
                                            "transformer.",
                                            "",
                                            NULL};
static const char *const clip_signs[] = {"text_model.embeddings.token_embedding.weight", "t.token_embd.weight",
                                         "embeddings.token_embedding.weight", NULL};
static const char *const clip_unused[] = {"logit_scale", "text_projection.weight", "*position_ids", NULL};

const name_map names_clip = {.title = "CLIP",
                             .prefixes = clip_prefixes,
                             .signs = clip_signs,
                             .row = clip_rows,
                             .rows = sizeof clip_rows / sizeof *clip_rows,
                             .unused = clip_unused};
