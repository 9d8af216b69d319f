"""FluxPipeline: FLUX.1 with the calls of diffusers' pipeline of that name."""
from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence, Union

from . import _interface as c
from ._handles import Adapter, Context, Model
from ._library import argument_error, choice, real, text, whole, words
from ._request import INT_MAX, Request
from ._stream import Job, Progress, Stream
from .picture import Picture, as_output, check_output

Path = Union[str, "os.PathLike[str]"]
Lora = Union[Path, "tuple[Path, float]"]
DTYPES = {"float32": "f32", "bfloat16": "bf16"}  # torch's names


@dataclass(frozen=True)
class ModelInfo:
    """What a model's folder says. part_dtypes, part_bytes: of text_encoder, text_encoder_2, transformer, vae."""
    name: str
    variant: str
    guidance: bool
    default_steps: int
    default_guidance: float
    default_width: int
    default_height: int
    default_sequence_length: int
    max_sequence_length: int
    size_multiple: int
    part_dtypes: tuple[str, ...]
    part_bytes: tuple[int, ...]


@dataclass(frozen=True)
class FluxPipelineOutput:
    """images: as output_type says. pictures: the same as flux1.Picture, with seeds, and save() that keeps the request."""
    images: Any
    pictures: list[Picture]


class FluxPipeline:
    """A model and a context to compute on. One call at a time; copy() makes another pipeline with the same weights, for
    another thread. Use from_pretrained() to make one. A with statement, or close(), gives its memory back."""

    def __init__(self, context_values: Mapping[str, object], model: Model | None, parts: Mapping[str, bytes | None]) -> None:
        self._context_values = dict(context_values)
        self._context: Context | None = Context(**self._context_values)
        self._model: Model | None = model or Model(self._context, **parts)
        self._loras: dict[str, tuple[str, float]] = {}  # loaded, by name: path, scale
        self._opened: dict[str, Adapter] = {}  # of the loaded ones, by name
        # all that somebody still uses, by path and the file's state: a request keeps those of its call
        self._adapters: weakref.WeakValueDictionary[tuple[object, ...], Adapter] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._job: Job | None = None

    @classmethod
    def from_pretrained(cls, path: Path | None = None, *, torch_dtype: object = None, dtype: object = None,
                        device: object = "cpu", variant: str | None = None, transformer: Path | None = None,
                        clip: Path | None = None, t5: Path | None = None, vae: Path | None = None,
                        tokenizers: Path | None = None, threads: int = 0, max_memory: int = 0,
                        max_device_memory: int = 0, device_weights: str = "auto", encoder_device: str | None = None,
                        mesh: str | None = None, sp: str | None = None, tp: str | None = None,
                        cache: Path | None = None) -> FluxPipeline:
        """Opens a model: a folder of diffusers, a file of weights (safetensors, GGUF), or org/name in Hugging Face's
        cache. transformer, clip, t5, vae, tokenizers: parts from elsewhere.

        dtype, or torch_dtype: "f32", "bf16", "fp8", "int8", "int8-fast" or torch's; None: what suits the device.
        device: "cpu", "cuda", "cuda:1", or torch's. threads: 0: the physical cores. max_memory, max_device_memory: bytes; 0: what there is.
        cache: a folder for prepared weights. The rest is as the program's options of that name."""
        if path is None and transformer is None:
            raise argument_error("from_pretrained needs a model's path, or transformer=, clip=, t5= and vae=")
        values = dict(device=_device(device), mesh=text(mesh, "mesh"), sp=text(sp, "sp"), tp=text(tp, "tp"),
                      encoder_device=text(encoder_device, "encoder_device"),
                      dtype=choice(_dtype_name(dtype or torch_dtype or "auto"), "dtype", "DTYPE"),
                      device_weights=choice(device_weights, "device_weights", "DEVICE_WEIGHTS"),
                      threads=whole(threads, "threads", 0, INT_MAX),
                      max_memory=whole(max_memory, "max_memory", 0, 2**64 - 1),
                      max_device_memory=whole(max_device_memory, "max_device_memory", 0, 2**64 - 1),
                      cache=text(cache, "cache"))
        parts = dict(model=text(path, "path"), transformer=text(transformer, "transformer"), clip=text(clip, "clip"),
                     t5=text(t5, "t5"), vae=text(vae, "vae"), tokenizers=text(tokenizers, "tokenizers"),
                     file_variant=text(variant, "variant"))
        return cls(values, None, parts)

    def __call__(self, prompt: str | Sequence[str], *, output_type: str = "pil", return_dict: bool = True,
                 progress: Callable[[Progress], object] | None = None, **request: Any) -> Any:
        """Makes pictures. The arguments are stream()'s, and:

        output_type: "pil", "np" (float32 in 0 to 1) or "picture" (flux1.Picture). progress: called with each Progress,
        on this thread; an exception in it cancels. An interrupt (Ctrl-C) cancels too."""
        check_output(output_type)
        pictures: list[Picture] = []
        with self.stream(prompt, **request) as events:
            for event in events:
                if isinstance(event, Picture):
                    pictures.append(event)
                elif progress is not None:
                    progress(event)
        pictures.sort(key=lambda p: (p.prompt, p.index))
        images = as_output(pictures, output_type)
        return FluxPipelineOutput(images, pictures) if return_dict else (images,)

    def stream(self, prompt: str | Sequence[str], *, negative_prompt: str | Sequence[str] | None = None,
               true_cfg_scale: float = 1.0, height: int | None = None, width: int | None = None,
               num_inference_steps: int | None = None, guidance_scale: float | None = None,
               num_images_per_prompt: int = 1, generator: Any = None, latents: Any = None,
               max_sequence_length: int | None = None, lora: Lora | Sequence[Lora] | Mapping[Path, float] | None = None,
               preview_every: int = 0, preview_kind: str = "rgb", batch: int = 0, step_cache: float = 0.0,
               tiling: str = "auto", rng: str | None = None, rng_threads: int = 0) -> Stream:
        """Begins to make pictures and returns their events: Progress, and each Picture when it is done.

        width, height, num_inference_steps, guidance_scale, max_sequence_length: None: the model's own.
        negative_prompt has an effect with true_cfg_scale > 1. generator: a seed, or a torch.Generator that was just
        seeded: picture k of the call has the seed + k; or a list with one for each picture; None: random. latents:
        float32 noise to begin with. lora: a file, (file, scale), a list or a dict of them, for this call, beside those
        of load_lora_weights(). preview_every: steps; preview_kind: "rgb" (fast) or "vae". batch: pictures computed
        together; 0: as fits. step_cache: 0.05 to 0.2 skips blocks that change little. tiling: of the VAE, "auto", "yes",
        "no", "bands". rng: "cpu" or "cuda", whose random numbers the seed means."""
        prompts = _prompts(prompt)
        with self._lock:
            context, model = self._idle()
            r = Request(model, prompts, num_images_per_prompt, generator)
            r.set_sizes(width, height, num_inference_steps, max_sequence_length)
            r.set_guidance(guidance_scale, negative_prompt, true_cfg_scale, len(prompts))
            r.set_adapters(self._uses(context, model, lora))
            r.set_noise(rng, rng_threads, latents)
            r.set(preview_every=whole(preview_every, "preview_every", 0, INT_MAX), step_cache=real(step_cache, "step_cache"),
                  preview_kind=choice(preview_kind, "preview_kind", "PREVIEW"), batch=whole(batch, "batch", 0, INT_MAX),
                  tiling=choice(tiling, "tiling", "TILING"))
            self._job = Job(context, r, self._finished)
            try:
                return Stream(self._job)
            except BaseException:  # no thread: nothing will tell that it has ended
                self._job = None
                raise

    def cancel(self) -> None:
        """Stops the call that is running, from any thread: it raises Cancelled. Without one it does nothing."""
        job = self._job
        if job is not None:
            job.request.token.cancel()

    def copy(self) -> FluxPipeline:
        """Another pipeline with the same model and options, and a context of its own."""
        if self._model is None:
            raise argument_error("this pipeline is closed")
        other = type(self)(self._context_values, self._model, {})
        other._loras = dict(self._loras)
        return other

    def to(self, *where: object, device: object = None, dtype: object = None) -> FluxPipeline:
        """Computes from the next call on on another device, or in another dtype, named as in from_pretrained(); `where`
        may have both. Returns this pipeline."""
        for value in where:
            if _is_dtype(value):
                dtype = value
            else:
                device = value
        values = dict(self._context_values)
        if device is not None:
            values["device"] = _device(device)
        if dtype is not None:
            values["dtype"] = choice(_dtype_name(dtype), "dtype", "DTYPE")
        with self._lock:
            old, _ = self._idle()
            if values != self._context_values:
                self._context, self._context_values = Context(**values), values
                old.close()
        return self

    def close(self) -> None:
        """Cancels what runs, and frees the context. The model's files stay mapped while a picture refers to them."""
        while True:
            with self._lock:  # nobody begins between the last look and the end
                job = self._job
                if job is None:
                    self._opened.clear()
                    context, self._context, self._model = self._context, None, None
                    break
            job.request.token.cancel()
            job.thread.join()
        if context is not None:
            context.close()

    def __enter__(self) -> FluxPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def info(self) -> ModelInfo:
        """What the model's folder says."""
        if self._model is None:
            raise argument_error("this pipeline is closed")
        i = self._model.info()
        return ModelInfo(i.name.decode("utf-8", "replace"), i.variant.decode(), bool(i.guidance), i.default_steps,
                         i.default_guidance, i.default_width, i.default_height, i.default_sequence_length,
                         i.max_sequence_length, i.size_multiple, tuple(d.decode() for d in i.part_dtype),
                         tuple(i.part_bytes))

    # ---- LoRA, with diffusers' names

    def load_lora_weights(self, path: Path, weight_name: str | None = None, adapter_name: str | None = None) -> None:
        """Opens a LoRA, in any of the usual trainers' namings, and uses it in each call from now on, with scale 1.
        weight_name: the file, where path is a folder."""
        name = adapter_name or f"default_{len(self._loras)}"
        if name in self._loras:
            raise argument_error(f"adapter_name {name!r} is in use")
        file = os.path.join(path, weight_name) if weight_name else os.fspath(path)
        with self._lock:
            self._opened[name] = self._open(*self._idle(), file)
            self._loras[name] = (file, 1.0)

    def set_adapters(self, names: str | Sequence[str], adapter_weights: float | Sequence[float] = 1.0) -> None:
        """The loaded LoRAs that are used from now on, and their scales; the others rest, with scale 0."""
        chosen = [names] if isinstance(names, str) else list(names)
        scales = [adapter_weights] * len(chosen) if isinstance(adapter_weights, (int, float)) else list(adapter_weights)
        if len(scales) != len(chosen):
            raise argument_error(f"adapter_weights: {len(scales)} for {len(chosen)} names")
        for name in chosen:
            if name not in self._loras:
                raise argument_error(f"{name!r} is not loaded; there are: {', '.join(self._loras) or 'none'}")
        wanted = dict(zip(chosen, scales))
        self._loras = {name: (file, wanted.get(name, 0.0)) for name, (file, _) in self._loras.items()}

    def unload_lora_weights(self) -> None:
        with self._lock:
            self._loras.clear()
            self._opened.clear()

    # ---- diffusers' calls for less memory, which programs make in any case

    def enable_model_cpu_offload(self, *_: object, **__: object) -> None:
        """Does nothing: weights that do not fit on the device are streamed to it anyway (max_device_memory=)."""

    def enable_vae_tiling(self) -> None:
        """Does nothing: pictures that cannot be decoded whole are decoded in parts anyway (tiling=)."""

    enable_sequential_cpu_offload = enable_model_cpu_offload
    enable_vae_slicing = enable_vae_tiling

    # ---- inside

    def _idle(self) -> tuple[Context, Model]:
        """With the lock held: what to compute with, once nothing else is computed."""
        job = self._job
        if job is not None and job.request.token.cancelled:
            job.thread.join()
        elif job is not None:
            raise argument_error("this pipeline is at work: take all events of its stream, or close() it; copy() makes "
                                 "another pipeline for another thread")
        if self._context is None or self._model is None:
            raise argument_error("this pipeline is closed")
        return self._context, self._model

    def _finished(self) -> None:
        self._job = None

    def _uses(self, context: Context, model: Model, lora: Any) -> list[tuple[Adapter, float]]:
        """Those that are loaded and those of this call."""
        if lora is None:
            given = []
        elif isinstance(lora, Mapping):
            given = list(lora.items())
        elif isinstance(lora, (str, os.PathLike)) or _is_pair(lora):
            given = [lora]
        elif isinstance(lora, (list, tuple)):
            given = list(lora)
        else:
            raise TypeError(f"lora: a file, (file, scale), a list or a dict is expected, not {type(lora).__name__}")
        for name, (file, scale) in self._loras.items():
            if scale != 0:
                self._opened[name] = self._open(context, model, file)
        uses = [(self._opened[name], float(scale)) for name, (_, scale) in self._loras.items() if scale != 0]
        pairs = [g if _is_pair(g) else (g, 1.0) for g in given]
        return uses + [(self._open(context, model, file), float(scale)) for file, scale in pairs if scale != 0]

    def _open(self, context: Context, model: Model, file: Path) -> Adapter:
        """Opened once, unless the file has changed."""
        try:
            s = os.stat(file)
            state: tuple[object, ...] = (os.fspath(file), s.st_mtime_ns, s.st_size, s.st_ino)
        except OSError:
            state = (os.fspath(file),)  # a name that the library looks for; or it has a sentence
        adapter = self._adapters.get(state)
        if adapter is None:
            adapter = self._adapters[state] = Adapter(context, model, text(file, "lora"))
        return adapter


def _prompts(prompt: Any) -> list[str]:
    prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    for p in prompts:
        if not isinstance(p, str):
            raise TypeError(f"prompt: a string or a list of strings is expected, not {type(p).__name__}")
    if not prompts:
        raise argument_error("prompt: an empty list")
    return prompts


def _dtype_name(dtype: object) -> str:
    """torch.bfloat16 is "bf16"."""
    name = str(dtype).replace("torch.", "")
    return DTYPES.get(name, name)


def _is_dtype(value: object) -> bool:
    """Of what may also be a device."""
    return str(value).startswith("torch.") or _dtype_name(value) in words("DTYPE")


def _device(device: object) -> bytes | None:
    """A torch.device is its text."""
    return text(str(device) if hasattr(device, "type") else device, "device")


def _is_pair(lora: Any) -> bool:
    return isinstance(lora, tuple) and len(lora) == 2 and isinstance(lora[1], (int, float))
