/* Texts that a PNG has and that libpng leaves out: which they are, and why. */
#ifndef FLUX1_IMAGE_PNG_LOST_H
#define FLUX1_IMAGE_PNG_LOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PNG_TEXT_MAX 8000000 /* bytes of one text, unpacked, that are read */
#define PNG_TEXTS_MAX 1000   /* chunks with texts, and of unknown kinds, that are read */
#define PNG_CHUNK_HEAD 8     /* bytes of its length and name, in front of its data … */
#define PNG_CHUNK_CHECK 4    /* … and of the checksum behind them */
#define PNG_LOST_MAX 16      /* further ones are not told of */

typedef enum png_lost_reason { PNG_LOST_DAMAGED, PNG_LOST_LARGE, PNG_LOST_BEHIND_OTHERS } png_lost_reason;

typedef struct png_lost {
    char key[80]; /* as in the file; "" where that cannot be read either */
    png_lost_reason reason;
} png_lost;

typedef struct png_losses {
    png_lost lost[PNG_LOST_MAX]; /* in the file's order */
    size_t count;
} png_losses;

/* "is damaged", to follow the text's name. */
const char *png_lost_text(png_lost_reason reason);

/* Adds the chunk that begins, with its length, at `chunk`, if it is a text. `left`: bytes of the file from there on, at
 * least PNG_CHUNK_HEAD. behind_others: no more texts are read, whatever it is. */
void png_lost_add(png_losses *l, const uint8_t *chunk, size_t left, bool behind_others);

#endif
