"""A picture, and what it can become: numpy, PIL, a file, bytes of a file."""
from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Any

from . import _interface as c
from ._handles import Context
from ._library import argument_error, choice, lib, text, whole

if TYPE_CHECKING:
    import numpy
    import PIL.Image

    from ._request import Request


class _Writer:
    """The context that files are written with, so that a picture can be saved while its pipeline makes others."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.context: Context | None = None

    def call(self, function: str, *arguments: object) -> None:
        with self.lock:
            if self.context is None:
                self.context = Context(threads=1)
            self.context.call(function, *arguments)


_writer = _Writer()


class Picture:
    """width, height; seed; prompt: which of the call's prompts it is of, from 0; index: which of that prompt's pictures;
    pixels: bytes, RGB, rows from the top; steps_reused, passes: what the step cache saved.

    Made by FluxPipeline. It knows its request, which save() writes into the file; a preview does not."""

    def __init__(self, image: c.flux1_image, request: Request, preview: bool = False) -> None:
        self.width: int = image.width
        self.height: int = image.height
        self.seed: int = image.seed
        self.prompt: int = request.prompt_of(image.request)
        self.index: int = request.index_of(image.request, image.index)
        self.steps_reused: int = image.steps_reused
        self.passes: int = image.passes
        self.pixels: bytes = ctypes.string_at(image.pixels, 3 * image.width * image.height)
        self._request = None if preview else request
        self._which = (image.request, image.index)
        self._made_by = (image.dtype, image.device, tuple(image.mesh))

    def __repr__(self) -> str:
        return f"<flux1.Picture {self.width}x{self.height}, seed {self.seed}>"

    def numpy(self) -> numpy.ndarray:
        """uint8, [height, width, 3]."""
        import numpy
        return numpy.frombuffer(self.pixels, numpy.uint8).reshape(self.height, self.width, 3).copy()

    def pil(self) -> PIL.Image.Image:
        import PIL.Image
        return PIL.Image.frombytes("RGB", (self.width, self.height), self.pixels)

    def save(self, path: str | os.PathLike[str], *, format: str = "auto", quality: int = 0, plain: bool = False) -> None:
        """Writes a file with the request in it, the same bytes as the program's. It appears when it is complete.

        format: "auto" (by the ending), "png", "jpeg", "webp". quality: of JPEG and WebP, 1 to 100; 0: 90.
        plain: without the request."""
        self._write("flux1_image_write", format, quality, plain, text(path, "path"))

    def encode(self, format: str = "png", *, quality: int = 0, plain: bool = False) -> bytes:
        """The bytes of such a file."""
        data, count = ctypes.POINTER(ctypes.c_uint8)(), ctypes.c_size_t()
        self._write("flux1_image_encode", format, quality, plain, ctypes.byref(data), ctypes.byref(count))
        try:
            return ctypes.string_at(data, count.value)
        finally:
            lib.flux1_bytes_free(data)

    def _write(self, function: str, format: str, quality: int, plain: bool, *where: object) -> None:
        how = c.flux1_write_params()
        lib.flux1_write_params_defaults(ctypes.byref(how))
        how.format = choice("jpeg" if format == "jpg" else format, "format", "FORMAT")
        how.quality = whole(quality, "quality", 0, 100)
        how.plain = bool(plain)
        image = c.flux1_image(size=ctypes.sizeof(c.flux1_image), width=self.width, height=self.height, seed=self.seed,
                              request=self._which[0], index=self._which[1], steps_reused=self.steps_reused,
                              passes=self.passes)
        image.dtype, image.device, image.mesh[:] = self._made_by
        image.pixels = ctypes.cast(ctypes.c_char_p(self.pixels), ctypes.POINTER(ctypes.c_uint8))
        model = params = None
        if self._request is not None:
            model = self._request.model.handle
            params = ctypes.byref(self._request.params[self._which[0]])
        _writer.call(function, ctypes.byref(image), model, params, ctypes.byref(how), *where)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.encode("png")


OUTPUTS = ("pil", "np", "picture")


def check_output(output_type: str) -> None:
    """Raises before anything is computed if the pictures could not be returned as that."""
    if output_type not in OUTPUTS:
        raise argument_error(f"output_type {output_type!r}: known are {', '.join(OUTPUTS)}")
    needs = {"pil": "PIL", "np": "numpy"}.get(output_type)
    if needs:
        try:
            __import__(needs)
        except ImportError:
            package = {"PIL": "Pillow"}.get(needs, needs)
            raise ImportError(f"output_type {output_type!r} needs {package}: pip install {package.lower()}, "
                              'or ask for output_type="picture"') from None


def as_output(pictures: list[Picture], output_type: str) -> Any:
    """As diffusers returns them: a list of PIL images, or float32 in 0 to 1, [pictures, height, width, 3]."""
    if output_type == "pil":
        return [p.pil() for p in pictures]
    if output_type == "np":
        import numpy
        return numpy.stack([p.numpy() for p in pictures]).astype(numpy.float32) / 255
    return pictures
