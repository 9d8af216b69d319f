"""What a failed call raises: an exception class for each status of the library."""
from __future__ import annotations


class Flux1Error(Exception):
    """A call failed. `str()` is the library's sentence: what, where, and what to do.

    status: the library's number; status_name: "FLUX1_ERR_IO" and so on."""
    status_name = ""

    def __init__(self, message: str, status: int = -1) -> None:
        super().__init__(message)
        self.status = status


class ArgumentError(Flux1Error, ValueError):
    """An argument or a combination of arguments is not usable."""
    status_name = "FLUX1_ERR_ARGUMENT"


class OutOfMemoryError(Flux1Error, MemoryError):
    """There is no more memory."""
    status_name = "FLUX1_ERR_MEMORY"


class FileError(Flux1Error, OSError):
    """A file could not be read or written."""
    status_name = "FLUX1_ERR_IO"


class FormatError(Flux1Error, ValueError):
    """A file is not what it should be."""
    status_name = "FLUX1_ERR_FORMAT"


class ModelError(Flux1Error, ValueError):
    """The model is incomplete or does not fit together."""
    status_name = "FLUX1_ERR_MODEL"


class UnsupportedError(Flux1Error, NotImplementedError):
    """Valid, but this build or device cannot do it."""
    status_name = "FLUX1_ERR_UNSUPPORTED"


class Cancelled(Flux1Error):
    """Cancelled on request."""
    status_name = "FLUX1_ERR_CANCELLED"


class NumericError(Flux1Error, ArithmeticError):
    """A computation gave NaN or infinity."""
    status_name = "FLUX1_ERR_NUMERIC"


class MeshError(Flux1Error):
    """A rank of the mesh failed or is gone."""
    status_name = "FLUX1_ERR_COMM"


class LimitError(Flux1Error):
    """The request is larger than a limit allows."""
    status_name = "FLUX1_ERR_LIMIT"


class InternalError(Flux1Error):
    """A defect in flux1."""
    status_name = "FLUX1_ERR_INTERNAL"


class DeviceError(Flux1Error):
    """A device failed."""
    status_name = "FLUX1_ERR_DEVICE"


def error_of(status: int, status_name: str, message: str) -> Flux1Error:
    """The exception of a status; of one that this package does not know, a plain Flux1Error."""
    for kind in Flux1Error.__subclasses__():
        if kind.status_name == status_name:
            return kind(message, status)
    error = Flux1Error(message, status)
    error.status_name = status_name
    return error
