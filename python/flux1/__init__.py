"""FLUX.1 text to image, by libflux1.

    import flux1
    pipe = flux1.FluxPipeline.from_pretrained("FLUX.1-schnell")
    pipe("a red fox", num_inference_steps=4, generator=7).images[0].save("fox.png")

FluxPipeline has the calls of diffusers' pipeline of that name. Errors are subclasses of Flux1Error with the library's
sentence. What the library notes goes to the logger "flux1" of the module logging."""
from ._interface import VERSION as _VERSION
from ._stream import Event, Progress, Stream
from .errors import (ArgumentError, Cancelled, DeviceError, FileError, Flux1Error, FormatError, InternalError, LimitError,
                     MeshError, ModelError, NumericError, OutOfMemoryError, UnsupportedError)
from .picture import Picture
from .pipeline import FluxPipeline, FluxPipelineOutput, ModelInfo

__version__ = ".".join(map(str, _VERSION))
__all__ = ["ArgumentError", "Cancelled", "DeviceError", "Event", "FileError", "Flux1Error", "FluxPipeline",
           "FluxPipelineOutput", "FormatError", "InternalError", "LimitError", "MeshError", "ModelError", "ModelInfo",
           "NumericError", "OutOfMemoryError", "Picture", "Progress", "Stream", "UnsupportedError", "__version__"]
