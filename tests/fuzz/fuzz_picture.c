/* What a picture says about itself: any bytes give facts or one sentence, and any text gives a prompt and pairs. */
#include "fuzz.h"

#include "base/file.h"
#include "image/infotext.h"
#include "image/picture_read.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/flux1_fuzz_XXXXXX";

static void remove_file(void) { unlink(path); }

static void read_text(const char *text)
{
    infotext t;
    if (infotext_read(text, &t, NULL) != FLUX1_OK || !t.prompt)
        abort();
    if (t.count > 0 && !infotext_value(&t, t.pairs[0].key))
        abort();
    infotext_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int made = -1;
    picture_facts f;
    flux1_error err = {0};
    if (made < 0) {
        made = mkstemp(path);
        atexit(remove_file);
    }
    if (made < 0 || ftruncate(made, 0) != 0 || pwrite(made, data, size, 0) != (ssize_t)size)
        abort();
    const flux1_status st = picture_facts_read(path, &f, &err);
    if ((st != FLUX1_OK) != (err.message[0] != '\0'))
        abort();
    if (f.parameters)
        read_text(f.parameters);
    picture_facts_free(&f);

    char *text = strndup((const char *)data, size);
    if (!text)
        abort();
    read_text(text);
    free(text);
    return 0;
}
