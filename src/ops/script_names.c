#include "ops/script_names.h"

static const char *const roles[] = {
    [ACT_RESIDUAL] = "residual", [ACT_LINEAR] = "linear", [ACT_HEADS] = "heads", [ACT_PARTIAL] = "partial",
    [ACT_PLANE] = "plane",       [ACT_TABLE] = "table",   [ACT_STATS] = "stats", [ACT_ROPE] = "rope",
    [ACT_IDS] = "ids",           [ACT_ROLES] = NULL};

static const char *const weight_roles[] = {
    [WEIGHT_LINEAR] = "linear", [WEIGHT_QKV] = "qkv",     [WEIGHT_VECTOR] = "vector",
    [WEIGHT_CONV] = "conv",     [WEIGHT_TABLE] = "table", [WEIGHT_TABLE + 1] = NULL};

static const char *const functions[] = {
    [ACTIVATION_NONE] = "none", [ACTIVATION_GELU_TANH] = "gelu_tanh", [ACTIVATION_QUICK_GELU] = "quick_gelu",
    [ACTIVATION_GELU] = "gelu", [ACTIVATION_SILU] = "silu",           [ACTIVATION_SILU + 1] = NULL};

static const char *const axes[] = {"sp", "tp", "all", NULL};

const char *const *script_words(script_kind kind)
{
    switch (kind) {
    case KIND_ROLE: return roles;
    case KIND_WROLE: return weight_roles;
    case KIND_F: return functions;
    case KIND_AXIS: return axes;
    default: return NULL;
    }
}
