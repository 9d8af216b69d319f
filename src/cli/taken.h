/* The files that the lines of a run have written, so that a later line does not replace one. */
#ifndef FLUX1_CLI_TAKEN_H
#define FLUX1_CLI_TAKEN_H

/* All zero: none. */
typedef struct taken {
    void *tree;
    struct taken_file *files;
} taken;

/* The line that wrote the file of this path (./a.png is a.png); 0: none. */
long taken_by(const taken *t, const char *path);
/* Without memory for it the file is forgotten. */
void taken_add(taken *t, const char *path, long line);
void taken_free(taken *t);

#endif
