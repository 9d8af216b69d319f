/* An input as a file, for what opens paths: a GGUF file as it is, or a safetensors header, a line feed and the data. */
#ifndef TESTS_FUZZ_FILE_H
#define TESTS_FUZZ_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char fuzz_path[] = "/tmp/flux1_fuzz_XXXXXX";
static int fuzz_file = -1;

static void fuzz_file_remove(void) { unlink(fuzz_path); }

/* Its path is fuzz_path. */
static void fuzz_file_write(const uint8_t *data, size_t size)
{
    if (fuzz_file < 0) {
        fuzz_file = mkstemp(fuzz_path);
        atexit(fuzz_file_remove);
    }
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    const size_t header = line ? (size_t)(line - data) : size;
    uint8_t length[8] = {(uint8_t)header, (uint8_t)(header >> 8), (uint8_t)(header >> 16)};
    bool whole = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    if (fuzz_file < 0 || ftruncate(fuzz_file, 0) != 0 || lseek(fuzz_file, 0, SEEK_SET) != 0)
        abort();
    ssize_t written = whole ? write(fuzz_file, data, size) : write(fuzz_file, length, 8);
    if (!whole && written == 8) {
        written = write(fuzz_file, data, header);
        if (line)
            written = write(fuzz_file, line + 1, size - header - 1);
    }
    if (written < 0)
        abort();
}

#endif
