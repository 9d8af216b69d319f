#include "fetch/metadata.h"

#include "fetch/place.h"
#include "fetch/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A redirect's target ("//host/path" takes the scheme of the request), or the address itself. */
static flux1_status read_address(const http_call *c, const char *path, metadata *out, flux1_error *err)
{
    const char *location = c->reply.location;
    builder b = {0};
    if (out->direct)
        builder_add(&b, c->url);
    else {
        if (strncmp(location, "//", 2) == 0)
            builder_add_bytes(&b, c->url, (size_t)(strchr(c->url, ':') + 1 - c->url));
        builder_add(&b, location);
    }
    TRY(builder_take(&b, "an address", &out->url, err));
    const bool falls = strncasecmp(c->url, "https:", 6) == 0 && strncasecmp(out->url, "https:", 6) != 0;
    if (url_is_web(out->url) && !falls && strlen(location) + 1 < sizeof c->reply.location)
        return FLUX1_OK;
    free(out->url);
    out->url = NULL;
    return error_set(err, FLUX1_ERR_FORMAT, "%s: the hub sends to an address that cannot be used (%.60s…)", path,
                     location);
}

flux1_status metadata_read(const http_call *c, const char *path, const char *commit, metadata *out, flux1_error *err)
{
    const http_reply *r = &c->reply;
    const char *etag = r->linked_etag[0] ? r->linked_etag : r->etag;
    *out = (metadata){.direct = r->code < 300, .size = r->linked_size};
    if (out->size < 0 && out->direct)
        out->size = r->length;
    if (!r->commit[0])
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: the answer has no X-Repo-Commit header: this is not the Hugging Face hub, or a proxy "
                         "removes its headers",
                         path);
    if (strcmp(r->commit, commit) != 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: commit %s was asked for, the hub answers with commit %s", path,
                         commit, r->commit);
    if (!place_etag_valid(etag))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: its ETag is \"%.60s\", which cannot be a file's name", path, etag);
    memcpy(out->etag, etag, strlen(etag) + 1);
    return read_address(c, path, out, err);
}
