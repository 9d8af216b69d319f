"""The library through ctypes, with nothing of its header compiled: a tiny picture, and what errors and info look like.
usage: ctypes_test.py libflux1.so PIPELINE FOLDER_FOR_FILES"""
import ctypes as c
import sys

lib = c.CDLL(sys.argv[1])
pipeline, folder = sys.argv[2].encode(), sys.argv[3].encode()


class Params(c.Structure):  # flux1_generate_params, as far as it is used here
    _fields_ = [("size", c.c_size_t), ("prompt", c.c_char_p), ("width", c.c_int), ("height", c.c_int),
                ("steps", c.c_int), ("guidance", c.c_float), ("seed", c.c_uint64), ("count", c.c_int)]


class Image(c.Structure):
    _fields_ = [("size", c.c_size_t), ("width", c.c_int), ("height", c.c_int), ("seed", c.c_uint64),
                ("pixels", c.POINTER(c.c_uint8))]


class ModelInfo(c.Structure):
    _fields_ = ([("size", c.c_size_t), ("guidance", c.c_int), ("default_steps", c.c_int),
                 ("default_guidance", c.c_float)] +
                [(n, c.c_int) for n in ("width", "height", "length", "max_length", "multiple")] +
                [("name", c.c_char_p), ("variant", c.c_char_p), ("part_dtype", c.c_char_p * 4),
                 ("part_bytes", c.c_uint64 * 4), ("reserved", c.c_uint64 * 6)])


lib.flux1_struct_size.restype = c.c_size_t
for name in ("version", "status_name", "context_message"):
    getattr(lib, "flux1_" + name).restype = c.c_char_p
for name in ("context_destroy", "model_close", "images_free"):
    getattr(lib, "flux1_" + name).restype = None
size = lib.flux1_struct_size
assert size(b"flux1_model_info") == c.sizeof(ModelInfo), size(b"flux1_model_info")
assert size(b"flux1_nothing") == 0 and size(None) == 0

context, model = c.c_void_p(), c.c_void_p()


def ok(status):
    assert status == 0, (lib.flux1_status_name(status), lib.flux1_context_message(context))


ok(lib.flux1_context_create(None, c.byref(context)))
assert lib.flux1_model_open(context, b"/no/such/model", c.byref(model)) != 0
assert b"/no/such/model" in lib.flux1_context_message(context)
ok(lib.flux1_model_open(context, pipeline + b"/", c.byref(model)))  # the name is without the slash

info = ModelInfo(size=c.sizeof(ModelInfo))
ok(lib.flux1_model_get_info(model, c.byref(info)))
assert info.name == pipeline.rsplit(b"/", 1)[-1] and info.variant == b"schnell", (info.name, info.variant)
assert list(info.part_dtype) == [b"F32"] * 4 and min(info.part_bytes) > 1000, list(info.part_dtype)

room = c.create_string_buffer(size(b"flux1_generate_params"))
lib.flux1_generate_params_defaults(room)
params = Params.from_buffer(room)
assert params.size == len(room) and params.count == 1
params.prompt, params.width, params.height, params.steps, params.seed = b"a red fox", 48, 32, 2, 42
images = c.POINTER(Image)()
ok(lib.flux1_generate(context, model, room, c.byref(images)))
image = images[0]
assert (image.width, image.height, image.seed) == (48, 32, 42)
assert len(set(image.pixels[:3 * 48 * 32])) > 10
ok(lib.flux1_image_write_png(context, images, model, room, folder + b"/ctypes.png"))
with open(folder + b"/ctypes.png", "rb") as f:
    assert f.read(8) == b"\x89PNG\r\n\x1a\n"
lib.flux1_images_free(images, 1)
lib.flux1_model_close(model)
lib.flux1_context_destroy(context)
