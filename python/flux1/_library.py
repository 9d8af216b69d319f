"""Opens libflux1 and checks that it is the one that this package was made for."""
from __future__ import annotations

import ctypes
import math
import os
from pathlib import Path

from . import _interface
from .errors import error_of

FLOAT_MAX = 3.4028234663852886e38
SONAME = f"libflux1.so.{_interface.VERSION[0]}"
BESIDE = Path(__file__).with_name("libflux1.so")  # as a wheel has it


def _path() -> str:
    """FLUX1_LIBRARY, else the package's own, else the system's."""
    return os.environ.get("FLUX1_LIBRARY") or (str(BESIDE) if BESIDE.exists() else SONAME)


def _open() -> ctypes.CDLL:
    path = _path()
    try:
        library = ctypes.CDLL(path)
    except OSError as e:
        raise ImportError(f"libflux1 cannot be opened: {e}. FLUX1_LIBRARY names another file.") from None
    for name, (result, arguments) in _interface.FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"{path} has no {name}: it is not the libflux1 of this package.") from None
        function.restype, function.argtypes = result, arguments
    _check(library, path)
    return library


def _check(library: ctypes.CDLL, path: str) -> None:
    """The version and the size of each struct."""
    own = ".".join(map(str, _interface.VERSION))
    version = library.flux1_version().decode()
    if version != own:
        raise ImportError(f"{path} is flux1 {version}, this package is made for {own}.")
    for name, struct in _interface.STRUCTS.items():
        size = library.flux1_struct_size(name.encode())
        if size and size != ctypes.sizeof(struct):  # 0: of flux1_tools.h
            raise ImportError(f"{path}: {name} has {size} bytes, this package is made for {ctypes.sizeof(struct)}.")


lib = _open()


def text(value: str | None, name: str) -> bytes | None:
    """A string for the library, whose strings end at the first NUL."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: a string is expected, not {type(value).__name__}")
    try:
        data = os.fspath(value).encode("utf-8", "surrogateescape" if isinstance(value, os.PathLike) else "strict")
    except UnicodeEncodeError as e:
        raise argument_error(f"{name}: it is not Unicode text ({e.reason})") from None
    if b"\0" in data:
        raise argument_error(f"{name}: it contains a NUL")
    return data


def whole(value: object, name: str, low: int, high: int) -> int:
    """An integer of that range: ctypes would cut off what does not fit."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name}: a whole number is expected, not {type(value).__name__}")
    number = value.__index__()
    if not low <= number <= high:
        raise argument_error(f"{name} {number}: it must be from {low} to {high}")
    return number


def real(value: object, name: str) -> float:
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}: a number is expected, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= FLOAT_MAX:
        raise argument_error(f"{name} {number}: it must be a finite number, of float32")
    return number


def words(prefix: str) -> dict[str, int]:
    """The enumerators FLUX1_<prefix>_<WORD>, as the program's options write the words."""
    return {n[len(prefix) + 7:].lower().replace("_", "-"): v for n, v in vars(_interface).items() if n.startswith(f"FLUX1_{prefix}_")}


def choice(value: object, name: str, prefix: str) -> int:
    """The enumerator of a word."""
    known = words(prefix)
    wanted = str(value).lower().replace("_", "-")
    if wanted not in known:
        raise argument_error(f"{name} {value!r}: known are {', '.join(sorted(known))}")
    return known[wanted]


def argument_error(message: str) -> Exception:
    return error_of(_interface.FLUX1_ERR_ARGUMENT, "FLUX1_ERR_ARGUMENT", message)
