"""The library's objects, each freed when nothing refers to it any more."""
from __future__ import annotations

import ctypes
import logging
import weakref
from typing import Callable

from . import _interface as c
from ._library import lib
from .errors import error_of

logger = logging.getLogger("flux1")
LEVELS = {c.FLUX1_LOG_INFO: logging.INFO, c.FLUX1_LOG_WARNING: logging.WARNING, c.FLUX1_LOG_DETAIL: logging.DEBUG}
LOG = dict(c.flux1_context_params._fields_)["log"]


@LOG
def _log(_user, level, message):
    logger.log(LEVELS.get(level, logging.INFO), "%s", message.decode("utf-8", "replace"))


def _freed_with(owner: object, function: Callable[[object], None], handle: object) -> weakref.finalize:
    """Frees the handle when its owner goes; not when the interpreter ends, where others that go later may still use it."""
    finalizer = weakref.finalize(owner, function, handle)
    finalizer.atexit = False
    return finalizer


class Context:
    """A flux1_context. One call at a time."""

    def __init__(self, **values: object) -> None:
        params = c.flux1_context_params()
        lib.flux1_context_params_defaults(ctypes.byref(params))
        for name, value in values.items():
            setattr(params, name, value)
        params.log = _log
        handle = ctypes.c_void_p()
        status = lib.flux1_context_create(ctypes.byref(params), ctypes.byref(handle))
        self.handle = handle
        self._free = _freed_with(self, lib.flux1_context_destroy, handle)
        self.check(status)

    def check(self, status: int) -> None:
        """Raises what the last call's status says. To be called before the next call."""
        if status != c.FLUX1_OK:
            message = lib.flux1_context_message(self.handle).decode("utf-8", "replace")
            name = lib.flux1_status_name(status).decode()
            raise error_of(status, name, message or lib.flux1_status_text(status).decode())

    def call(self, function: str, *arguments: object) -> None:
        self.check(getattr(lib, function)(self.handle, *arguments))

    def close(self) -> None:
        self._free()


class Model:
    """A flux1_model, shared by any number of contexts."""

    def __init__(self, context: Context, **parts: bytes | None) -> None:
        named = c.flux1_model_parts(size=ctypes.sizeof(c.flux1_model_parts), **parts)
        handle = ctypes.c_void_p()
        context.call("flux1_model_open_parts", ctypes.byref(named), ctypes.byref(handle))
        self.handle = handle
        _freed_with(self, lib.flux1_model_close, handle)

    def info(self) -> c.flux1_model_info:
        info = c.flux1_model_info(size=ctypes.sizeof(c.flux1_model_info))
        status = lib.flux1_model_get_info(self.handle, ctypes.byref(info))
        assert status == c.FLUX1_OK, "a handle and a size are all that it needs"
        return info


class Adapter:
    """A flux1_adapter of a model, which it keeps."""

    def __init__(self, context: Context, model: Model, path: bytes) -> None:
        handle = ctypes.c_void_p()
        context.call("flux1_adapter_open", model.handle, path, ctypes.byref(handle))
        self.handle, self.model = handle, model
        _freed_with(self, lib.flux1_adapter_close, handle)


class Token:
    """A flux1_cancel_token."""

    def __init__(self) -> None:
        self.handle = lib.flux1_cancel_token_create()
        if not self.handle:
            raise MemoryError("no memory for a token")
        _freed_with(self, lib.flux1_cancel_token_destroy, self.handle)
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        lib.flux1_cancel_token_cancel(self.handle)
