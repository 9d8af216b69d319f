/* A script's calls made on a rank (ops/script.h). In a dry run they are checked against the contract of every entry,
 * and counted; then they can be made on a backend. */
#ifndef FLUX1_MESH_SCRIPT_PLAY_H
#define FLUX1_MESH_SCRIPT_PLAY_H

#include "mesh/mesh.h"
#include "ops/script.h"

/* What a script asks for by name; user: the table's. */
typedef struct script_sources {
    /* FLUX1_ERR_MODEL if there is no such tensor */
    flux1_status (*tensor)(void *user, const char *name, const store_tensor **out, flux1_error *err);
    /* [rows, cols], float32 or int32; borrowed until the script has ended. data is not read in a dry run */
    flux1_status (*input)(void *user, const char *name, tensor *out, flux1_error *err);
    /* a row, where copy_rows has one by name */
    flux1_status (*row)(void *user, const char *name, int64_t *out, flux1_error *err);
    tensor *output; /* what rank 0's `output` fills, of exactly as many elements */
    void *user;
} script_sources;

typedef struct player player;

/* A player keeps what a script makes (activations, weights, the arena's marks) for the scripts that follow it. */
flux1_status player_create(mesh *m, const script_sources *from, player **out);
void player_destroy(player *p); /* and what it made, but activations; NULL is fine */

/* Makes the calls. FLUX1_ERR_FORMAT, naming the line, for what the script may not say. */
flux1_status player_run(player *p, const script *s);

/* Weights that its scripts have prepared: their numbers are below player_weights; false for one that is none. *bias
 * holds only with *has_bias. */
size_t player_weights(const player *p);
bool player_recipe(const player *p, int64_t w, weight_recipe *out, weight_recipe *bias, bool *has_bias);

bool player_gave(const player *p); /* whether the script that ran last had an output on this rank */

#endif
