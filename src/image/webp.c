#include "image/webp.h"

#include <webp/encode.h>
#include <webp/mux.h>

/* The coded picture and its metadata as one file. */
static WebPMuxError assemble(const WebPData *picture, const builder *exif, const builder *xmp, WebPData *file)
{
    WebPMux *mux = WebPMuxNew();
    if (!mux)
        return WEBP_MUX_MEMORY_ERROR;
    WebPMuxError e = WebPMuxSetImage(mux, picture, 0);
    if (e == WEBP_MUX_OK && exif)
        e = WebPMuxSetChunk(mux, "EXIF", &(WebPData){(const uint8_t *)exif->text, exif->length}, 0);
    if (e == WEBP_MUX_OK && xmp)
        e = WebPMuxSetChunk(mux, "XMP ", &(WebPData){(const uint8_t *)xmp->text, xmp->length}, 0);
    if (e == WEBP_MUX_OK)
        e = WebPMuxAssemble(mux, file);
    WebPMuxDelete(mux);
    return e;
}

flux1_status webp_encode(const char *name, const rgb_pixels *p, int quality, const builder *exif, const builder *xmp,
                         builder *out, flux1_error *err)
{
    WebPData picture, file;
    uint8_t *coded = NULL;
    WebPDataInit(&file);
    const size_t size = quality == 100
                            ? WebPEncodeLosslessRGB(p->rgb, p->width, p->height, 3 * p->width, &coded)
                            : WebPEncodeRGB(p->rgb, p->width, p->height, 3 * p->width, (float)quality, &coded);
    if (size == 0) /* its sizes were checked: there is no other reason left */
        return error_oom(err, 0, name);
    picture = (WebPData){coded, size};
    const WebPMuxError e = assemble(&picture, exif, xmp, &file);
    if (e == WEBP_MUX_OK)
        builder_add_bytes(out, (const char *)file.bytes, file.size);
    WebPDataClear(&file);
    WebPFree(coded);
    if (e == WEBP_MUX_MEMORY_ERROR)
        return error_oom(err, 0, name);
    return e == WEBP_MUX_OK ? FLUX1_OK : error_set(err, FLUX1_ERR_INTERNAL, "%s: libwebp: fault %d", name, (int)e);
}
