/* Opened files of adapters, and which of them a request has. */
#ifndef FLUX1_PIPELINE_ADAPTER_SET_H
#define FLUX1_PIPELINE_ADAPTER_SET_H

#include "model/adapters.h"
#include "pipeline/folder.h"

#include <stdatomic.h>

struct flux1_adapter {
    atomic_int users; /* the caller, and sessions that have it */
    uint64_t number;  /* no other one of the process has it */
    uint64_t model;   /* the number of the model that it was opened for */
    char *path;
    char kinds[120]; /* those of its entries, for people */
    adapter_file *file;
};

/* The file for this model, with one user. */
flux1_status adapter_open_for(const struct flux1_model *m, const char *path, struct flux1_adapter **out,
                              flux1_error *err);
void adapter_leave(struct flux1_adapter *a); /* one user less; the last one closes it. NULL is fine */

#define ADAPTERS_MAX 16

/* A request's adapters, in order. */
typedef struct adapter_set {
    int count;
    struct flux1_adapter *adapter[ADAPTERS_MAX];
    float scale[ADAPTERS_MAX];
} adapter_set;

bool adapter_set_same(const adapter_set *a, const adapter_set *b);

/* Those of them that change a text encoder: what encoded prompts depend on. s NULL: none. */
void adapter_set_of_texts(const adapter_set *s, adapter_set *out);
/* Those that change a part. */
void adapter_set_of_part(const adapter_set *s, model_part part, adapter_set *out);

/* Whether some of them are merged into weights of a part. */
bool adapter_set_merges(const adapter_set *s, model_part part);
/* … and whether both sets merge the same into it. */
bool adapter_set_merges_same(const adapter_set *a, const adapter_set *b, model_part part);

/* *s becomes a copy of `by` with a user more of each; those that it had have one less. by NULL: none. */
void adapter_set_change(adapter_set *s, const adapter_set *by);

/* For adapters_attach and the loader. */
void adapter_set_uses(const adapter_set *s, adapter_use out[ADAPTERS_MAX]);

#endif
