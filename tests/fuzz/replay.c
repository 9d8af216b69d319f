/* Runs a harness over every file of the folders (or files) given: the corpus as a plain test, without libFuzzer. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size;
    uint8_t *bytes = NULL;
    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0 ||
        !(bytes = malloc((size_t)size + !size)) || fread(bytes, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s: cannot read\n", path);
        if (f)
            fclose(f);
        free(bytes);
        return -1;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
    return 1;
}

/* Files run, or -1. */
static int run(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return run_file(path);
    DIR *folder = opendir(path);
    int files = 0;
    for (struct dirent *entry; folder && files >= 0 && (entry = readdir(folder));) {
        char file[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        files = run_file(file) < 0 ? -1 : files + 1;
    }
    if (!folder)
        return -1;
    closedir(folder);
    return files;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int files = run(argv[i]);
        if (files <= 0) {
            fprintf(stderr, "%s: no corpus\n", argv[i]);
            return 1;
        }
        printf("%s: %d inputs\n", argv[i], files);
    }
    return argc > 1 ? 0 : 2;
}
