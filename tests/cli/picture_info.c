/* picture_info FILE.png [KEY]: prints "WIDTHxHEIGHT CRC" of the picture, or its text of that key; exit 1 if it cannot
 * be read or has none. */
#include "image/png.h"
#include "support/png_pixels.h"

#include <stdio.h>
#include <string.h>

static int print_pixels(const char *path)
{
    int width, height;
    uint32_t sum = 2166136261u; /* FNV-1a */
    uint8_t *rgb = png_pixels(path, &width, &height);
    for (size_t i = 0; rgb && i < 3u * (size_t)width * (size_t)height; i++)
        sum = (sum ^ rgb[i]) * 16777619u;
    if (rgb)
        printf("%dx%d %08x\n", width, height, (unsigned)sum);
    else
        fprintf(stderr, "%s: its pixels cannot be read\n", path);
    free(rgb);
    return !rgb;
}

static int print_text(const char *path, const char *key)
{
    flux1_error err = {0};
    png_picture picture;
    int found = 0;
    if (png_file_read_texts(path, &picture, &err) != FLUX1_OK)
        fprintf(stderr, "%s\n", err.message);
    for (size_t i = 0; i < picture.text_count; i++)
        if (strcmp(picture.texts[i].key, key) == 0) {
            puts(picture.texts[i].text);
            found = 1;
        }
    png_picture_free(&picture);
    return !found;
}

int main(int argc, char **argv)
{
    return argc < 2 ? 1 : argc < 3 ? print_pixels(argv[1]) : print_text(argv[1], argv[2]);
}
