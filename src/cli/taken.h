/* Files, each with a number: of the line or the option that writes or reads it, so that no other one replaces it. */
#ifndef FLUX1_CLI_TAKEN_H
#define FLUX1_CLI_TAKEN_H

/* All zero: none. */
typedef struct taken {
    void *tree;
    struct taken_file *files;
} taken;

/* The number of the file of this path (./a.png is a.png); 0: it is not among them. */
long taken_by(const taken *t, const char *path);
/* Without memory for it the file is forgotten; one that is there keeps its number. */
void taken_add(taken *t, const char *path, long number);
void taken_free(taken *t);

#endif
