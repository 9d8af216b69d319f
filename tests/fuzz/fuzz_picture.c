/* What a picture says about itself: any bytes give facts or one sentence, any text gives a prompt and pairs, and
 * is a graph or a problem. */
#include "fuzz.h"

#include "base/file.h"
#include "image/comfy.h"
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

/* A graph has a request, or a sentence why not. */
static void read_graph(const char *prompt, const char *workflow)
{
    comfy_facts f;
    if (comfy_read(prompt, workflow, &f, NULL) != FLUX1_OK || f.loras < 0 || f.loras > COMFY_LORAS)
        abort();
    if (f.problem && (f.prompt || f.seed || f.loras))
        abort();
    comfy_free(&f);
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
    if (f.comfy || f.comfy_workflow)
        read_graph(f.comfy, f.comfy_workflow);
    picture_facts_free(&f);

    char *text = strndup((const char *)data, size);
    if (!text)
        abort();
    read_text(text);
    read_graph(text, NULL);
    read_graph(NULL, text);
    free(text);
    return 0;
}
