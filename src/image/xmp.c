#include "image/xmp.h"

#include "base/utf8.h"

#include <string.h>

#define BEGIN_JSON "<flux1:request>"
#define END_JSON "</flux1:request>"

static const struct {
    const char *name, *character;
} entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
enum { ENTITIES = sizeof entities / sizeof *entities };

/* XML forbids control characters, which JSON has none of, but a caller's text may; and U+FFFE and U+FFFF, which are
 * written as JSON's escapes. */
static void add_escaped(builder *b, const char *json)
{
    for (; *json; json++) {
        if (*json == '&' || *json == '<' || *json == '>')
            builder_add(b, *json == '&' ? "&amp;" : *json == '<' ? "&lt;" : "&gt;");
        else if (strncmp(json, "\xEF\xBF\xBE", 3) == 0 || strncmp(json, "\xEF\xBF\xBF", 3) == 0) {
            builder_add(b, json[2] == '\xBE' ? "\\ufffe" : "\\uffff");
            json += 2;
        } else if ((unsigned char)*json < 0x20 && !strchr("\t\n\r", *json))
            builder_add(b, UTF8_REPLACEMENT);
        else
            builder_add_bytes(b, json, 1);
    }
}

void xmp_add(builder *b, const char *software, const char *json)
{
    builder_add(b, "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
                   "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
                   "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
                   "<rdf:Description rdf:about=\"\" xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\""
                   " xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\""
                   " xmlns:flux1=\"urn:flux1:metadata\">"
                   "<Iptc4xmpExt:DigitalSourceType>"
                   "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
                   "</Iptc4xmpExt:DigitalSourceType><xmp:CreatorTool>");
    add_escaped(b, software);
    builder_add(b, "</xmp:CreatorTool>");
    if (json) {
        builder_add(b, BEGIN_JSON);
        add_escaped(b, json);
        builder_add(b, END_JSON);
    }
    builder_add(b, "</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end=\"r\"?>");
}

static const char *find(const char *bytes, size_t size, const char *text)
{
    const size_t n = strlen(text);
    for (const char *end = bytes + size, *at = bytes; (size_t)(end - at) >= n; at++) {
        at = memchr(at, text[0], (size_t)(end - at) - n + 1);
        if (!at)
            return NULL;
        if (memcmp(at, text, n) == 0)
            return at;
    }
    return NULL;
}

flux1_status xmp_json(const char *bytes, size_t size, char **out, bool *damaged, flux1_error *err)
{
    builder b = {0};
    *out = NULL;
    const char *at = find(bytes, size, BEGIN_JSON);
    if (at)
        at += strlen(BEGIN_JSON);
    const char *from = at ? at : bytes, *end = find(from, size - (size_t)(from - bytes), END_JSON);
    *damaged = (at != NULL) != (end != NULL);
    if (!at || !end)
        return FLUX1_OK;
    while (at < end) {
        size_t taken = 0;
        for (int i = 0; *at == '&' && i < ENTITIES && !taken; i++) {
            const size_t n = strlen(entities[i].name);
            if ((size_t)(end - at) >= n && memcmp(at, entities[i].name, n) == 0) {
                builder_add(&b, entities[i].character);
                taken = n;
            }
        }
        if (!taken)
            builder_add_bytes(&b, at, taken = 1);
        at += taken;
    }
    return builder_take(&b, "a picture's parameters", out, err);
}
