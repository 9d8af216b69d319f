/* Bodies, headers and paths of HTTP requests: whatever they say, a request is read within its limits or refused with
 * one sentence that is UTF-8. The first byte chooses the interface; of headers and paths the rest is a value. */
#include "fuzz.h"

#include "base/utf8.h"
#include "server/access.h"
#include "server/framing.h"
#include "server/webui_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const job_request defaults = {.true_cfg_scale = 1, .width = 64, .height = 64, .steps = 4, .count = 1};

static void check(const job_request *r)
{
    if (!r->prompt || strlen(r->prompt) > REQUEST_PROMPT_MAX || r->width < 1 || r->width > REQUEST_SIZE_MAX ||
        r->height < 1 || r->steps < 1 || r->steps > REQUEST_STEPS_MAX || r->count < 1 || r->count > REQUEST_COUNT_MAX ||
        (r->written && strlen(r->written) <= strlen(r->prompt)) || !isfinite(r->guidance) ||
        !isfinite(r->true_cfg_scale) || !isfinite(r->step_cache) || r->seed > UINT64_MAX - (uint64_t)(r->count - 1) ||
        r->preview_every < 0)
        abort();
    for (int i = 0; i < r->loras; i++)
        if (!r->lora[i].name[0] || !isfinite(r->lora[i].scale))
            abort();
}

static void check_refusal(bool good, const fault *f)
{
    if (good != (f->kind == FAULT_NONE) || (!good && !f->message[0]) || !utf8_valid(f->message, strlen(f->message)))
        abort();
}

static void read_body(const char *text, size_t size, bool webui)
{
    json_value *root = NULL;
    job_request r;
    webui_wishes w;
    remarks said = {0};
    fault f = {0};
    if (json_parse(text, size, "the body", &root, NULL) != FLUX1_OK)
        return;
    if (request_begin(&defaults, &r, &f)) {
        const bool good = webui ? webui_request_read(root, &r, &w, &said, &f) : request_read(root, &r, &said, &f);
        check_refusal(good, &f);
        if (good)
            check(&r);
        request_free(&r);
    }
    remarks_free(&said);
    json_free(root);
}

static void read_header(const char *value, bool is_key)
{
    static const char *const keys[] = {"a key"};
    const server_settings locked = {.host = "127.0.0.1", .keys = keys, .key_count = 1},
                          open_server = {.host = "127.0.0.1", .allow_host = "a,b.c"};
    fault f = {0};
    check_refusal(is_key ? access_key(&locked, value, value, &f) : access_names(&open_server, value, value, &f), &f);
}

static void read_path(char *text)
{
    const size_t before = strlen(text), after = framing_unescape(NULL, NULL, text);
    if (after > before || after != strlen(text))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = size > 0 ? malloc(size) : NULL;
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == 'p')
        read_path(text);
    else if (data[0] == 'k' || data[0] == 'h')
        read_header(text, data[0] == 'k');
    else
        read_body(text, size - 1, data[0] == 'w');
    free(text);
    return 0;
}
