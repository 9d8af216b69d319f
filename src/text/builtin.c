#include "text/builtin.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define BUILTIN_NAME "the built-in "

/* Every file gets a name for messages; none is there yet. */
static flux1_status name_files(tokenizer_files *out, flux1_error *err)
{
    bool named = true;
    memset(out, 0, sizeof *out);
#define ROW(member, file_name) named = (out->member.name = strdup(BUILTIN_NAME file_name)) && named;
    TOKENIZER_FILES(ROW)
#undef ROW
    return named ? FLUX1_OK : error_oom(err, 0, "the built-in tokenizers");
}

static flux1_status unpack(const builtin_file *file, text_file *out, flux1_error *err)
{
    uLongf size = (uLongf)file->bytes;
    if (!(out->bytes = malloc(file->bytes + 1)))
        return error_oom(err, file->bytes + 1, out->name);
    /* what the library itself holds is whole: only memory can lack */
    if (uncompress((Bytef *)out->bytes, &size, file->packed, (uLong)file->packed_bytes) != Z_OK)
        return error_oom(err, 0, out->name);
    out->size = size;
    out->bytes[size] = '\0';
    return FLUX1_OK;
}

flux1_status builtin_clip_files(tokenizer_files *out, flux1_error *err)
{
    TRY(name_files(out, err));
    out->vocabulary_of_merges = true;
    return unpack(&builtin_clip_merges, &out->merges, err);
}

flux1_status builtin_t5_files(tokenizer_files *out, flux1_error *err)
{
    TRY(name_files(out, err));
    return unpack(&builtin_t5_spiece, &out->model, err);
}
