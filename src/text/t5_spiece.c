/* spiece.model: the few fields of sentencepiece's ModelProto that matter, read by a bounded protobuf reader.
 * (google/sentencepiece: src/sentencepiece_model.proto) */
#include "text/t5_spiece.h"

#include "base/half.h"
#include "base/utf8.h"

#include <math.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { PIECE_NORMAL = 1, PIECE_CONTROL = 3, PIECE_USER_DEFINED = 4, MODEL_UNIGRAM = 1 };

typedef struct proto_field {
    uint32_t number;
    int wire;
    uint64_t value;    /* of a varint or fixed field */
    const char *bytes; /* of a length-delimited one */
    size_t size;
} proto_field;

static bool read_varint(const char **at, const char *end, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (*at == end)
            return false;
        unsigned char byte = (unsigned char)*(*at)++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* The next field of the message [*at, end); false if it is cut or of a kind that does not exist. */
static bool read_field(const char **at, const char *end, proto_field *out)
{
    uint64_t key, size;
    if (!read_varint(at, end, &key) || key >> 3 == 0 || key >> 3 > 0x1FFFFFFF)
        return false;
    *out = (proto_field){(uint32_t)(key >> 3), (int)(key & 7), 0, NULL, 0};
    if (out->wire == WIRE_VARINT)
        return read_varint(at, end, &out->value);
    if (out->wire == WIRE_BYTES) {
        if (!read_varint(at, end, &size) || size > (uint64_t)(end - *at))
            return false;
        out->bytes = *at;
        out->size = (size_t)size;
        *at += size;
        return true;
    }
    size_t width = out->wire == WIRE_64 ? 8 : out->wire == WIRE_32 ? 4 : 0;
    if (width == 0 || (size_t)(end - *at) < width)
        return false;
    for (size_t i = 0; i < width; i++)
        out->value |= (uint64_t)(unsigned char)(*at)[i] << (8 * i);
    *at += width;
    return true;
}

static flux1_status broken(const char *name, size_t offset, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT,
                     "%s: not a sentencepiece model, or cut short: no valid field at byte %zu; fetch the file again",
                     name, offset);
}

/* ModelProto.SentencePiece: piece = 1, score = 2, type = 3. */
static flux1_status read_piece(const text_file *file, const proto_field *message, t5_source *s, flux1_error *err)
{
    const char *at = message->bytes, *end = at + message->size;
    t5_piece piece = {"", 0, false, 0};
    uint64_t type = PIECE_NORMAL;
    while (at < end) {
        proto_field f;
        const char *begin = at;
        if (!read_field(&at, end, &f))
            return broken(file->name, (size_t)(begin - file->bytes), err);
        if (f.number == 1 && f.wire == WIRE_BYTES) {
            if (f.size > T5_PIECE_BYTES_MAX || !utf8_valid(f.bytes, f.size))
                return error_set(err, FLUX1_ERR_FORMAT, "%s: piece %zu is not valid UTF-8 of at most %d bytes",
                                 file->name, s->piece_count, T5_PIECE_BYTES_MAX);
            piece.bytes = f.bytes;
            piece.length = (uint32_t)f.size;
        } else if (f.number == 2 && f.wire == WIRE_32) {
            piece.score = f32_from_bits((uint32_t)f.value);
        } else if (f.number == 3 && f.wire == WIRE_VARINT) {
            type = f.value;
        }
    }
    piece.added = type == PIECE_CONTROL || type == PIECE_USER_DEFINED;
    return t5_source_add(s, piece, err);
}

/* TrainerSpec: model_type = 3, unk_id = 40. NormalizerSpec: precompiled_charsmap = 2; the converter of transformers
 * looks at nothing else. */
static flux1_status read_trainer(const text_file *file, const proto_field *message, t5_source *s, flux1_error *err)
{
    const char *at = message->bytes, *end = at + message->size;
    while (at < end) {
        proto_field f;
        const char *begin = at;
        if (!read_field(&at, end, &f))
            return broken(file->name, (size_t)(begin - file->bytes), err);
        if (f.number == 3 && f.wire == WIRE_VARINT && f.value != MODEL_UNIGRAM)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: the model is not of type Unigram, which T5 uses",
                             file->name);
        if (f.number == 40 && f.wire == WIRE_VARINT)
            s->unknown = f.value <= INT32_MAX ? (int64_t)f.value : -1;
    }
    return FLUX1_OK;
}

static flux1_status read_normalizer(const text_file *file, const proto_field *message, t5_source *s, flux1_error *err)
{
    const char *at = message->bytes, *end = at + message->size;
    while (at < end) {
        proto_field f;
        const char *begin = at;
        if (!read_field(&at, end, &f))
            return broken(file->name, (size_t)(begin - file->bytes), err);
        if (f.number == 2 && f.wire == WIRE_BYTES) {
            s->charsmap = f.bytes;
            s->charsmap_bytes = f.size;
        }
    }
    return FLUX1_OK;
}

/* ModelProto: pieces = 1, trainer_spec = 2, normalizer_spec = 3, in this order: a file that lacks the last was cut. */
flux1_status t5_read_spiece(const text_file *file, t5_source *s, flux1_error *err)
{
    const char *at = file->bytes, *end = at + file->size;
    bool trainer = false, normalizer = false;
    s->unknown = 0; /* the proto's default */
    while (at < end) {
        proto_field f;
        const char *begin = at;
        if (!read_field(&at, end, &f))
            return broken(file->name, (size_t)(begin - file->bytes), err);
        if (f.wire != WIRE_BYTES)
            continue;
        if (f.number == 1)
            TRY(read_piece(file, &f, s, err));
        else if (f.number == 2)
            TRY(read_trainer(file, &f, s, err));
        else if (f.number == 3)
            TRY(read_normalizer(file, &f, s, err));
        trainer = trainer || f.number == 2;
        normalizer = normalizer || f.number == 3;
    }
    if (s->piece_count == 0 || !trainer || !normalizer)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: has no %s, so it is not a sentencepiece model or was cut short; fetch the file again",
                         file->name,
                         s->piece_count == 0 ? "pieces"
                         : !trainer          ? "trainer_spec"
                                             : "normalizer_spec");
    if (s->unknown < 0 || s->unknown >= (int64_t)s->piece_count)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the unknown piece's id is %lld, the vocabulary has %zu pieces",
                         file->name, (long long)s->unknown, s->piece_count);
    return FLUX1_OK;
}
