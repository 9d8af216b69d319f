/* POST /api/png-info: what made a picture. */
#include "server/png_info.h"
#include "server/routes.h"

static void tell(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    json_value *facts = NULL;
    fault f = {0};
    if (!png_info_read(x->server, x->body.text, x->body.length, &facts, &f)) {
        answer_fault(x, &f);
        return;
    }
    const char *parameters = json_string_value(json_object_get(facts, "parameters"));
    const char *problem = json_string_value(json_object_get(facts, "problem"));
    json_begin_object(&w, NULL);
    json_put_string(&w, "parameters", parameters ? parameters : "");
    png_info_put_request(&w, "request", json_object_get(facts, "request"));
    if (problem)
        json_put_string(&w, "problem", problem);
    json_end_object(&w);
    json_free(facts);
    answer_json(x, 200, &w);
}

void png_info_post(exchange *x) { exchange_aside_reading(x, tell); } /* it writes a file */
