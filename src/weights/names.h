/* The names that files give to the tensors of FLUX.1's parts, as tables. Inside flux1 every tensor has the name that
 * diffusers' (transformers') folders use; a map says which rows of which tensor of another layout it is. */
#ifndef FLUX1_WEIGHTS_NAMES_H
#define FLUX1_WEIGHTS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum model_part { MODEL_CLIP, MODEL_T5, MODEL_TRANSFORMER, MODEL_VAE, MODEL_PARTS } model_part;

#define NAME_BYTES_MAX 256 /* of a mapped name, with its end */

typedef enum name_form {
    NAME_PLAIN,
    NAME_SWAPPED, /* its two halves of rows are exchanged */
    NAME_MATRIX,  /* a 1x1 convolution's filters [out, in, 1, 1], a matrix [out, in] elsewhere */
    NAME_TALL,    /* this row holds if the tensor has more rows than columns (biases: than half the other's) */
    NAME_WIDE     /* … fewer */
} name_form;

/* `from` is the file's name, `to` ours; a `#` stands for a number, copied to the `#` of `to` in order (a `~`: counted
 * from the other end of the levels). A pattern that ends before ".weight" or ".bias" covers both. Of `of` equal shares
 * of the tensor's rows this is `count`, from share `first`. */
typedef struct name_row {
    const char *from, *to;
    uint8_t first, count, of;
    name_form form;
} name_row;

typedef struct name_map {
    const char *title;           /* "transformer", for messages */
    const char *const *prefixes; /* under which files put the part; "" last */
    const char *const *signs;    /* tensors that tell the part, behind a prefix */
    const name_row *row;
    size_t rows;
    const char *levels;        /* what counts levels, in front of their number; NULL: no `~` in the map */
    const char *const *unused; /* tensors that such files have and FLUX.1 does not use ("*ending") */
} name_map;

extern const name_map names_clip, names_t5, names_transformer, names_vae;
const name_map *name_map_of(model_part part);

/* Whether `row` covers the name. `levels`: for `~`. `out` gets our name. */
bool name_matches(const name_row *row, const char *name, int levels, char out[NAME_BYTES_MAX]);

/* The way back: whether the row makes our name, and from which of the file's in `out`. */
bool name_inverts(const name_row *row, const char *name, int levels, char out[NAME_BYTES_MAX]);

/* The same for a layer's name without ".weight", translated from pattern `from` to pattern `to`; in a `flat` name a "_"
 * stands for each "." of the pattern. */
bool name_translates(const char *from, const char *to, bool flat, const char *name, char out[NAME_BYTES_MAX]);

/* The number of levels, if the name has a higher one than `levels`. */
int name_levels(const name_map *map, const char *name, int levels);

/* The same by our own name. */
int name_levels_ours(const name_map *map, const char *name, int levels);

/* Whether it names a table whose rows are looked up, not a layer that multiplies; whatever stands in front. */
bool name_is_table(const char *name);

/* Whether the name is in a list of whole names and "*ending"s (NULL-terminated, NULL: empty). */
bool name_listed(const char *name, const char *const *list);

#endif
