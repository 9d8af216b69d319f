/* Unigram segmentation: the path of highest total score through all vocabulary pieces (tokenizers' Unigram,
 * encode_optimized). */
#include "text/t5_unigram.h"

#include "base/utf8.h"

#include <stdlib.h>

/* The best path that ends at a byte. `link` is where its last piece begins, and on the way back out where the piece
 * that begins here ends. */
typedef struct lattice_node {
    double score;
    uint32_t link;
    int32_t id; /* -1: no path ends here (within a character) */
} lattice_node;

static void offer(lattice_node *node, double score, uint32_t start, int32_t id)
{
    if (node->id >= 0 && !(score > node->score))
        return;
    *node = (lattice_node){score, start, id};
}

static flux1_status fill_lattice(const unigram *u, const char *text, size_t size, lattice_node *node, flux1_error *err)
{
    int32_t c;
    for (size_t at = 0; at < size;) {
        size_t character = utf8_decode(text + at, size - at, &c);
        if (character == 0)
            character = 1; /* never in checked text */
        bool known = false;
        const string_entry *entry;
        string_walk walk = string_walk_begin(&u->pieces);
        for (size_t i = at; i < size && string_walk_step(&u->pieces, &walk, (unsigned char)text[i], &entry); i++) {
            if (!entry)
                continue;
            offer(&node[i + 1], u->scores[entry->value] + node[at].score, (uint32_t)at, (int32_t)entry->value);
            known = known || i + 1 - at == character;
        }
        if (!known) {
            if (u->unknown < 0)
                return error_set(
                    err, FLUX1_ERR_MODEL,
                    "the prompt has U+%04X, which the T5 vocabulary lacks, and the vocabulary names no unknown piece",
                    (unsigned)c);
            offer(&node[at + character], u->unknown_score + node[at].score, (uint32_t)at, u->unknown);
        }
        at += character;
    }
    return FLUX1_OK;
}

flux1_status unigram_encode(const unigram *u, const char *text, size_t size, id_list *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    lattice_node *node = malloc((size + 1) * sizeof *node); /* size <= T5_NORMALIZED_MAX + 3 */
    if (!node)
        return error_oom(err, (size + 1) * sizeof *node, "a prompt's segmentation");
    for (size_t i = 0; i <= size; i++)
        node[i] = (lattice_node){0, 0, -1};
    TRY_CLEANUP(fill_lattice(u, text, size, node, err));
    lattice_node last = node[size];
    for (size_t at = size; at > 0;) { /* turn the links around; an id moves to where its piece begins */
        size_t start = last.link;
        lattice_node before = node[start];
        node[start].link = (uint32_t)at;
        node[start].id = last.id;
        last = before;
        at = start;
    }
    for (size_t at = 0; at < size && !out->full;) {
        size_t end = node[at].link;
        int32_t piece = node[at].id;
        if (piece == u->unknown) {
            uint32_t fused;
            while (end < size && node[end].id == u->unknown)
                end = node[end].link;
            piece = string_table_find(&u->pieces, text + at, end - at, &fused) ? (int32_t)fused : u->unknown;
        }
        id_list_push(out, piece);
        at = end;
    }
cleanup:
    free(node);
    return st;
}
