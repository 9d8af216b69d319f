/* Makes the source of a builtin_file (text/builtin.h) out of a file, when the library is built.
 * usage: pack FILE NAME OUT.c */
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define INPUT_MAX ((size_t)4 << 20)
#define BYTES_A_LINE 24

static int failed(const char *what, const char *name)
{
    fprintf(stderr, "pack: cannot %s %s\n", what, name);
    return 1;
}

/* The file's bytes; *size 0 if it cannot be read or is too large. */
static unsigned char *read_whole(const char *name, size_t *size)
{
    FILE *f = fopen(name, "rb");
    unsigned char *bytes = malloc(INPUT_MAX);
    *size = f && bytes ? fread(bytes, 1, INPUT_MAX, f) : 0;
    if (f && (ferror(f) || *size == INPUT_MAX))
        *size = 0;
    if (f)
        fclose(f);
    return bytes;
}

static void write_source(FILE *out, const char *name, const unsigned char *packed, size_t count, size_t size)
{
    fprintf(out, "#include \"text/builtin.h\"\n\nstatic const unsigned char packed[] = {");
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%d,", i % BYTES_A_LINE ? "" : "\n", packed[i]);
    fprintf(out, "\n};\n\nconst builtin_file %s = {packed, %zu, %zu};\n", name, count, size);
}

int main(int argc, char **argv)
{
    size_t size;
    if (argc != 4)
        return failed("work without", "FILE NAME OUT.c");
    unsigned char *bytes = read_whole(argv[1], &size);
    if (size == 0)
        return failed("read", argv[1]);
    uLongf count = compressBound((uLong)size);
    unsigned char *packed = malloc(count);
    if (!packed || compress2(packed, &count, bytes, (uLong)size, Z_BEST_COMPRESSION) != Z_OK)
        return failed("pack", argv[1]);
    FILE *out = fopen(argv[3], "w");
    if (!out)
        return failed("write", argv[3]);
    write_source(out, argv[2], packed, count, size);
    if (ferror(out) | fclose(out))
        return failed("write", argv[3]);
    free(packed);
    free(bytes);
    return 0;
}
