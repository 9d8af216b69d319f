/* picture_info FILE.png [KEY]: prints "WIDTHxHEIGHT CRC" of the picture, or its text of that key; exit 1 if it cannot
 * be read or has none. */
#include "image/png.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    flux1_error err = {0};
    png_picture picture;
    int found = argc < 3;
    if (argc < 2 || png_file_read(argv[1], &picture, &err) != FLUX1_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (argc < 3) {
        uint32_t sum = 2166136261u; /* FNV-1a */
        for (size_t i = 0; i < 3u * (size_t)picture.width * (size_t)picture.height; i++)
            sum = (sum ^ picture.rgb[i]) * 16777619u;
        printf("%dx%d %08x\n", picture.width, picture.height, (unsigned)sum);
    }
    for (size_t i = 0; argc > 2 && i < picture.text_count; i++)
        if (strcmp(picture.texts[i].key, argv[2]) == 0) {
            puts(picture.texts[i].text);
            found = 1;
        }
    png_picture_free(&picture);
    return !found;
}
