/* flux1 convert, in steps: one part of a model is opened (convert_source.c), the tensors of the file to write are
 * listed as rows of its tensors (convert_plan.c), each gets a type (convert_types.c, convert_rules.c), and their values
 * are written (convert_write.c). */
#ifndef FLUX1_TOOLS_CONVERT_H
#define FLUX1_TOOLS_CONVERT_H

#include "flux1_tools.h"
#include "pipeline/context.h"
#include "weights/adapter_merge.h"
#include "weights/recipe.h"
#include "weights/tensor_file.h"

/* ---- types ---- */

/* name, type (of "keep": meaningless), whether each weight has a scale beside it, llama.cpp's number of a file of
 * mostly this type (-1: GGUF does not have it) */
#define CONVERT_TYPE_MAP(X)              \
    X("keep", F32, 0, 0)                 \
    X("f32", F32, 0, 0)                  \
    X("f16", F16, 0, 1)                  \
    X("bf16", BF16, 0, 32)               \
    X("fp8", F8_E4M3, 0, -1)             \
    X("fp8_e4m3", F8_E4M3, 0, -1)        \
    X("fp8_e5m2", F8_E5M2, 0, -1)        \
    X("fp8_scaled", F8_E4M3, 1, -1)      \
    X("fp8_e5m2_scaled", F8_E5M2, 1, -1) \
    X("q8_0", Q8_0, 0, 7)                \
    X("q4_0", Q4_0, 0, 2)                \
    X("q4_1", Q4_1, 0, 3)                \
    X("q5_0", Q5_0, 0, 8)                \
    X("q5_1", Q5_1, 0, 9)                \
    X("q2_k", Q2_K, 0, 10)               \
    X("q3_k", Q3_K, 0, 11)               \
    X("q4_k", Q4_K, 0, 14)               \
    X("q5_k", Q5_K, 0, 16)               \
    X("q6_k", Q6_K, 0, 18)

typedef struct convert_type {
    const char *name;
    dtype type;
    bool scaled;
    int file_type;
} convert_type;

#define CONVERT_KEEP 0 /* the row of "keep" */
extern const convert_type convert_types[];

/* The type of that name, in either case, which the format must have. NULL: `problem` says why. */
const convert_type *convert_type_named(const char *name, size_t length, bool is_gguf, char *problem, size_t size);

/* ---- rules: a type for the tensors whose name fits a pattern ---- */

typedef struct convert_rule {
    char *pattern;
    const convert_type *type;
    int line;
    bool used;
} convert_rule;

typedef struct convert_rules {
    convert_rule *rule;
    size_t count, room;
} convert_rules;

/* Lines `pattern type`, blank ones, and comments from "#". A pattern is of the shell's kind (*, ?, [a-z]). `name` is
 * the file, for messages. FLUX1_ERR_FORMAT with the line, FLUX1_ERR_MEMORY; convert_rules_free in any case. */
flux1_status convert_rules_parse(const char *text, const char *name, bool is_gguf, convert_rules *out,
                                 flux1_error *err);
void convert_rules_free(convert_rules *r);

/* The first rule that fits one of the names; NULL: none. */
convert_rule *convert_rules_find(const convert_rules *r, const char *name, const char *other);

/* ---- the plan ---- */

#define CONVERT_SLICES 4 /* q, k, v and the MLP's first layer in one */

/* Rows of a source tensor in a tensor of the file. */
typedef struct convert_slice {
    const store_tensor *item;
    int64_t at;    /* row in the file's tensor */
    int64_t first; /* row of the item */
    int64_t rows;
} convert_slice;

typedef struct convert_tensor {
    char name[NAME_BYTES_MAX]; /* in the file */
    int share[CONVERT_SLICES]; /* while the plan is made: the share of the rows that each slice is */
    int of;
    bool swapped;
    int slices;
    convert_slice slice[CONVERT_SLICES];
    int dims;
    int64_t shape[TENSOR_DIMS];
    int64_t rows, cols; /* shape[0] and the rest */
    weight_recipe from;
    dtype type;
    bool scaled;                          /* with a tensor `….scale_weight` beside it */
    bool copied;                          /* the stored bytes are taken over */
    float scale;                          /* of a scaled one; known in advance only where it is copied */
    bool merged;                          /* an adapter changes it */
    adapter_merged *with[CONVERT_SLICES]; /* … a slice's item, which `from` reads in its place; NULL: not this one */
    size_t index, scale_index;            /* in the tensor_file */
} convert_tensor;

typedef enum convert_names { CONVERT_OURS, CONVERT_FILES } convert_names; /* diffusers'; BFL's and llama.cpp's */

typedef struct convert_job {
    flux1_context *context;
    const char *in, *out;
    model_part part;
    store *s;
    bool is_gguf;
    convert_names names;
    const convert_type *type;
    convert_rules rules;
    adapter_file *adapter[FLUX1_ADAPTER_FILES_MAX];
    float strength[FLUX1_ADAPTER_FILES_MAX];
    int adapters;
    convert_tensor *tensor;
    size_t count, room;
    size_t left_out; /* source tensors that are none of the part's */
    size_t fallen;   /* tensors whose rows do not fit the type that was wanted */
    tensor_file file;
    void (*progress)(void *user, double done);
    void *user;
    flux1_error *err;
} convert_job;

/* convert_source.c: opens the part of that name (NULL: the only one) of a file, a part's folder or a pipeline folder.
 */
flux1_status convert_open(const char *path, const char *part, const char *variant, model_part *out, store **s,
                          flux1_error *err);

/* convert_plan.c: lists the file's tensors. */
flux1_status convert_plan(convert_job *j);

/* convert_types.c: gives each tensor its type. */
flux1_status convert_choose_types(convert_job *j);

/* convert_facts.c: the file's metadata. */
flux1_status convert_facts(convert_job *j);

/* convert_write.c: writes the tensors. */
flux1_status convert_write(convert_job *j);

#endif
