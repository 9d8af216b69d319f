"""The arguments of a call, checked and laid out for flux1_generate_many."""
from __future__ import annotations

import ctypes
import secrets
from typing import Any, Sequence

from . import _interface as c
from ._handles import Adapter, Model, Token
from ._library import argument_error, choice, lib, real, text, whole

INT_MAX = 2**31 - 1
SEED_MAX = 2**64 - 1
ADAPTERS_MAX = 16


def _listed(value: Any, name: str, count: int) -> list[Any]:
    """One for each prompt."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise argument_error(f"{name}: {len(value)} for {count} prompt{'s' if count > 1 else ''}")
    return list(value)


def _seed(generator: Any) -> int:
    """An int, or a torch.Generator, whose seed it is that counts."""
    if hasattr(generator, "initial_seed"):
        generator = generator.initial_seed()
    return whole(generator, "generator", 0, SEED_MAX)


class Request:
    """An array of flux1_generate_params, and all that they point to."""

    def __init__(self, model: Model, prompts: list[str], images_per_prompt: int, generator: Any) -> None:
        self.model = model
        self.images_per_prompt = whole(images_per_prompt, "num_images_per_prompt", 1, INT_MAX)
        self.rng: str | None = None
        rows = self._rows(prompts, generator)
        self.params = (c.flux1_generate_params * len(rows))()
        self.kept: list[Any] = []
        self.token = Token()
        self.prompts = [row[0] for row in rows]
        for p, (prompt, seed, count) in zip(self.params, rows):
            lib.flux1_generate_params_defaults(ctypes.byref(p))
            p.prompt, p.seed, p.count = text(prompts[prompt], "prompt"), seed, count
        self.params[0].cancel = self.token.handle

    def _rows(self, prompts: list[str], generator: Any) -> list[tuple[int, int, int]]:
        """Prompt, first seed, pictures. With one seed picture k of the call has seed + k."""
        each, total = self.images_per_prompt, len(prompts) * self.images_per_prompt
        if isinstance(generator, (list, tuple)):
            if len(generator) != total:
                raise argument_error(f"generator: {len(generator)} seeds for {total} pictures")
            self._take_device(generator[0])
            return [(k // each, _seed(g), 1) for k, g in enumerate(generator)]
        self._take_device(generator)
        first = secrets.randbits(32) if generator is None else _seed(generator)
        if first + total - 1 > SEED_MAX:
            raise argument_error(f"generator {first}: the last picture's seed would be above {SEED_MAX}")
        return [(k, first + k * each, each) for k in range(len(prompts))]

    def _take_device(self, generator: Any) -> None:
        """A torch.Generator on a GPU draws other numbers."""
        device = getattr(generator, "device", None)
        self.rng = "cuda" if getattr(device, "type", None) == "cuda" else None

    def set(self, **values: object) -> None:
        """The same in all of them."""
        for p in self.params:
            for name, value in values.items():
                setattr(p, name, value)

    def set_sizes(self, width: int | None, height: int | None, steps: int | None, max_sequence_length: int | None) -> None:
        self.set(width=whole(width or 0, "width", 0, INT_MAX), height=whole(height or 0, "height", 0, INT_MAX),
                 steps=-1 if steps is None else whole(steps, "num_inference_steps", 1, INT_MAX),
                 max_sequence_length=whole(max_sequence_length or 0, "max_sequence_length", 0, INT_MAX))

    def set_guidance(self, guidance: float | None, negative: Any, true_cfg_scale: float, prompt_count: int) -> None:
        negatives = _listed(negative, "negative_prompt", prompt_count)
        if guidance is not None and real(guidance, "guidance_scale") < 0:
            raise argument_error(f"guidance_scale {guidance}: it must not be negative")
        for p, prompt in zip(self.params, self.prompts):
            p.negative_prompt = text(negatives[prompt], "negative_prompt")
        self.set(guidance=-1.0 if guidance is None else guidance, true_cfg_scale=real(true_cfg_scale, "true_cfg_scale"))

    def set_adapters(self, uses: Sequence[tuple[Adapter, float]]) -> None:
        if len(uses) > ADAPTERS_MAX:
            raise argument_error(f"lora: {len(uses)}; at most {ADAPTERS_MAX} are used at once")
        array = (c.flux1_adapter_use * len(uses))()
        for row, (adapter, scale) in zip(array, uses):
            row.adapter, row.scale = adapter.handle, scale
        self.kept += [array, uses]
        self.set(adapters=array, adapter_count=len(uses))

    def set_noise(self, rng: str | None, rng_threads: int, latents: Any) -> None:
        self.set(rng=choice(rng or self.rng or "cpu", "rng", "RNG"), rng_threads=whole(rng_threads, "rng_threads", 0, INT_MAX))
        if latents is None:
            return
        import numpy
        try:
            values = numpy.ascontiguousarray(latents, numpy.float32)
        except (TypeError, ValueError) as e:
            raise TypeError(f"latents: an array of numbers is expected ({e})") from None
        total = len(set(self.prompts)) * self.images_per_prompt
        if values.ndim not in (3, 4) or values.shape[0] != total:
            raise argument_error(f"latents: shape {list(values.shape)}; [{total}, tokens, channels] or "
                                 f"[{total}, channels, rows, columns] is expected")
        start = 0
        for p in self.params:
            part = values[start:start + p.count]
            start += p.count
            noise = c.flux1_latents(size=ctypes.sizeof(c.flux1_latents), dims=values.ndim, shape=part.shape,
                                    values=part.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
            self.kept += [part, noise]
            p.latents = ctypes.pointer(noise)

    def prompt_of(self, request: int) -> int:
        return self.prompts[request]

    def index_of(self, request: int, index: int) -> int:
        """Among the pictures of its prompt: with a seed for each picture a prompt has several requests."""
        return index if self.params[request].count > 1 else request % self.images_per_prompt
