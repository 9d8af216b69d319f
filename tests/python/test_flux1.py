"""The Python package, by the standard library alone (numpy's and Pillow's tests are skipped without them). The oracle of pictures is the program.
environment: PYTHONPATH with flux1; FLUX1: the program; PIPELINE: a tiny pipeline; LORA: a file for it; SOURCE: the repository"""
import ctypes
import gc
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import weakref
from pathlib import Path

import flux1
from flux1 import _interface
from flux1._library import lib

PROGRAM, PIPELINE, LORA, SOURCE = (os.environ[n] for n in ("FLUX1", "PIPELINE", "LORA", "SOURCE"))
SIZE = {"width": 48, "height": 32}
MANY = 10000  # steps, the most there are: a request that a cancel ends


def has(module):
    return importlib.util.find_spec(module) is not None


def python(code, **environment):
    """A program of its own; its exit status and what it wrote to standard error."""
    p = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    return p.returncode, p.stderr


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pipe = flux1.FluxPipeline.from_pretrained(PIPELINE)
        self.addCleanup(self.pipe.close)

    def draw(self, prompt="a red fox", pipe=None, **request):
        """Pictures of a small request."""
        request = {**SIZE, "num_inference_steps": 2, "generator": 42, **request}
        return (pipe or self.pipe)(prompt, output_type="picture", **request).pictures

    def program(self, *options, output="cli.png", prompt="a red fox"):
        """The bytes of the files that the program writes."""
        command = [PROGRAM, "generate", "-m", PIPELINE, "-p", prompt, "-W", "48", "-H", "32", "-s", "2", "-S", "42", "-o", output, "--quiet", *options]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)
        return [p.read_bytes() for p in sorted(self.folder.glob(Path(output).stem + "*" + Path(output).suffix))]

    def saved(self, picture, name="py.png", **how):
        picture.save(self.folder / name, **how)
        return (self.folder / name).read_bytes()

    def drawn_in(self, picture):
        """What its file says of that."""
        dtype, device = re.search(rb'"dtype": "(\w+)", "device": "(\w+)"', self.saved(picture)).groups()
        return f"{dtype.decode()} on {device.decode()}"


class Pictures(Case):
    def test_files_are_the_programs(self):
        pictures = self.draw(num_images_per_prompt=2)
        self.assertEqual([p.seed for p in pictures], [42, 43])
        self.assertEqual([self.saved(p) for p in pictures], self.program("-n", "2"))
        self.assertEqual(self.saved(pictures[0], "py.webp"), self.program(output="cli.webp")[0])
        self.assertEqual(pictures[0].encode(), self.saved(pictures[0]))
        self.assertLess(len(pictures[0].encode(plain=True)), len(pictures[0].encode()))

    def test_options_are_the_programs(self):
        picture, = self.draw(negative_prompt="a dog", true_cfg_scale=2.5, max_sequence_length=64, rng="cuda", lora=(LORA, 0.5))
        self.assertEqual(self.saved(picture), self.program("--negative-prompt", "a dog", "--true-cfg-scale", "2.5", "--max-sequence-length", "64", "--rng",
                                                           "cuda", "--lora", LORA + ":0.5")[0])

    def test_prompts_and_seeds_may_be_lists(self):
        """Picture k of the call has the seed + k, or the k-th seed; each is what it is alone, but for rounding."""
        both = self.draw(["a red fox", "two owls"], num_images_per_prompt=2, batch=1)
        self.assertEqual([(p.prompt, p.index, p.seed) for p in both], [(0, 0, 42), (0, 1, 43), (1, 0, 44), (1, 1, 45)])
        self.assertEqual(both[3].pixels, self.draw("two owls", generator=45)[0].pixels)
        each = self.draw(["a red fox", "two owls"], num_images_per_prompt=2, generator=[7, 42, 45, 9], batch=1)
        self.assertEqual([(p.prompt, p.index, p.seed) for p in each], [(0, 0, 7), (0, 1, 42), (1, 0, 45), (1, 1, 9)])
        self.assertEqual([each[1].pixels, each[2].pixels], [both[0].pixels, both[3].pixels])
        self.assertEqual(self.saved(each[2]), self.saved(self.draw("two owls", generator=45)[0]))

    def test_a_generator_of_torch_is_its_seed(self):
        class Generator:
            class device:
                type = "cuda"

            def initial_seed(self):
                return 42

        self.assertEqual(self.draw(generator=Generator())[0].pixels, self.draw(rng="cuda")[0].pixels)
        self.assertNotEqual(self.draw(generator=Generator())[0].pixels, self.draw()[0].pixels)

    def test_a_model_cards_code_runs(self):
        """As Hugging Face's page of FLUX.1-schnell has it, with stand-ins for torch's objects."""
        class Generator:
            device = None

            def initial_seed(self):
                return 0

        class bfloat16:
            def __str__(self):
                return "torch.bfloat16"

        pipe = flux1.FluxPipeline.from_pretrained(PIPELINE, torch_dtype=bfloat16())
        pipe.enable_model_cpu_offload()
        picture, = pipe("a cat", guidance_scale=0.0, num_inference_steps=4, max_sequence_length=64, generator=Generator(), **SIZE, output_type="picture").pictures
        self.assertEqual(self.drawn_in(picture), "bf16 on cpu")

    def test_a_pipeline_moves_to_another_device(self):
        pipe = flux1.FluxPipeline.from_pretrained(PIPELINE)
        pipe.load_lora_weights(LORA)
        expected = self.saved(self.draw(pipe=pipe)[0])
        self.assertIs(pipe.to("ref"), pipe)
        self.assertEqual(self.drawn_in(self.draw(pipe=pipe)[0]), "f32 on ref")
        with self.assertRaisesRegex(flux1.UnsupportedError, "tpu"):
            pipe.to("tpu")
        self.assertEqual(self.drawn_in(self.draw(pipe=pipe)[0]), "f32 on ref")
        self.assertEqual(self.drawn_in(self.draw(pipe=pipe.to("cpu", "bf16"))[0]), "bf16 on cpu")
        self.assertEqual(self.saved(self.draw(pipe=pipe.to(device="cpu", dtype="float32"))[0]), expected)
        with self.assertRaisesRegex(flux1.ArgumentError, "dtype .*float16.*: known are"):
            pipe.to(dtype="float16")

    def test_without_a_seed_it_is_random(self):
        self.assertNotEqual(self.draw(generator=None)[0].seed, self.draw(generator=None)[0].seed)

    def test_loras_are_loaded_scaled_and_unloaded(self):
        plain, given = self.draw()[0].pixels, self.draw(lora={LORA: 0.5})[0].pixels
        self.assertNotEqual(plain, given)
        self.pipe.load_lora_weights(os.path.dirname(LORA), weight_name=os.path.basename(LORA), adapter_name="mine")
        self.assertEqual(self.draw()[0].pixels, self.draw(pipe=self.pipe.copy())[0].pixels)
        self.pipe.set_adapters("mine", 0.5)
        self.assertEqual(self.draw()[0].pixels, given)
        with self.assertRaisesRegex(flux1.ArgumentError, "'other' is not loaded; there are: mine"):
            self.pipe.set_adapters("other")
        self.pipe.unload_lora_weights()
        self.assertEqual(self.draw()[0].pixels, plain)

    def test_a_picture_outlives_its_pipeline(self):
        with flux1.FluxPipeline.from_pretrained(PIPELINE) as pipe:
            picture, = self.draw(pipe=pipe, lora=LORA)
        before = self.saved(self.draw(lora=LORA)[0])
        del pipe
        gc.collect()
        self.assertEqual(self.saved(picture), before)

    @unittest.skipUnless(has("numpy"), "numpy is not installed")
    def test_numpy(self):
        import numpy
        out = self.pipe("a red fox", **SIZE, num_inference_steps=2, generator=42, num_images_per_prompt=2, output_type="np")
        self.assertEqual((out.images.shape, out.images.dtype), ((2, 32, 48, 3), numpy.float32))
        self.assertTrue((numpy.rint(out.images[1] * 255) == out.pictures[1].numpy()).all())
        noise = numpy.zeros((2, 6, 16))
        with self.assertRaisesRegex(flux1.ArgumentError, r"latents: shape \[2, 6, 16\]"):
            self.draw(latents=noise)
        with self.assertRaisesRegex(TypeError, "latents: an array of numbers is expected"):
            self.draw(latents="x")

    @unittest.skipUnless(has("numpy"), "numpy is not installed")
    def test_latents_are_the_noise_to_begin_with(self):
        """The program writes the noise that it draws (--dump, a safetensors file); given back it makes the same picture."""
        import json
        import numpy
        self.program("--dump", "stages.safetensors")
        data = (self.folder / "stages.safetensors").read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        noise = json.loads(data[8:start])["noise"]
        begin, end = (start + offset for offset in noise["data_offsets"])
        values = numpy.frombuffer(data[begin:end], numpy.float32).reshape(noise["shape"])
        expected = self.draw()[0].pixels
        self.assertEqual(self.draw(latents=values, generator=7)[0].pixels, expected)
        twice = numpy.concatenate([values, values]).astype(numpy.float64)
        self.assertEqual([p.pixels for p in self.draw(["a red fox"] * 2, latents=twice, generator=[7, 8], batch=1)], [expected] * 2)

    @unittest.skipUnless(has("PIL"), "Pillow is not installed")
    def test_pil(self):
        image, = self.pipe("a red fox", **SIZE, num_inference_steps=2, generator=42).images
        self.assertEqual((image.size, image.mode, image.tobytes()), ((48, 32), "RGB", self.draw()[0].pixels))

    @unittest.skipIf(has("PIL"), "Pillow is installed")
    def test_what_cannot_be_returned_is_not_computed(self):
        with self.assertRaisesRegex(ImportError, "pip install pillow"):
            self.pipe("a red fox", num_inference_steps=MANY)


class Streams(Case):
    def stream(self, **request):
        return self.pipe.stream("a red fox", **{**SIZE, "num_inference_steps": MANY, "generator": 42, **request})

    def until_denoising(self, stream):
        return next(e for e in stream if isinstance(e, flux1.Progress) and e.step > 0)

    def test_progress_then_pictures(self):
        events = list(self.stream(num_inference_steps=5, num_images_per_prompt=2, batch=1, preview_every=2))
        pictures = [e for e in events if isinstance(e, flux1.Picture)]
        progress = [e for e in events if isinstance(e, flux1.Progress)]
        self.assertEqual([p.pixels for p in pictures], [p.pixels for p in self.draw(num_inference_steps=5, num_images_per_prompt=2, batch=1)])
        steps = [(e.image, e.step) for e in progress if e.stage == "denoise" and e.step > 0]
        self.assertEqual(sorted(set(steps)), [(i, s) for i in range(2) for s in range(1, 6)])
        self.assertEqual({e.steps for e in progress if e.step > 0}, {5})
        fractions = [e.fraction for e in progress]
        self.assertEqual(fractions, sorted(fractions))
        self.assertEqual(fractions[-1], 1)
        self.assertEqual({(p.preview.width, p.preview.height) for p in progress if p.preview}, {(48, 32)})

    def test_previews_say_of_which_prompt_they_are(self):
        events = list(self.pipe.stream(["a car", "a dog"], width=48, height=32, num_inference_steps=2, generator=[3, 4],
                                       preview_every=1, batch=1))
        previews = [e.preview.prompt for e in events if isinstance(e, flux1.Progress) and e.preview]
        self.assertEqual(previews, sorted(previews))
        self.assertEqual(set(previews), {0, 1})

    def test_a_thread_that_does_not_start_leaves_the_pipeline_usable(self):
        with unittest.mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            with self.assertRaisesRegex(RuntimeError, "can't start"):
                self.stream()
        self.assertEqual(len(self.draw()), 1)

    def test_an_error_keeps_nothing(self):
        pipe = self.pipe.copy()
        context = weakref.ref(pipe._context)
        gc.disable()
        self.addCleanup(gc.enable)
        try:
            self.draw(pipe=pipe, num_inference_steps=MANY, progress=lambda event: 1 / 0)
        except ZeroDivisionError:
            pass
        stream = pipe.stream("a car", width=48, height=32, num_inference_steps=MANY)
        pipe.cancel()
        with self.assertRaises(flux1.Cancelled):
            list(stream)
        del pipe, stream
        self.assertIsNone(context())

    def test_a_call_that_begins_while_the_pipeline_closes(self):
        """What it computes with is not taken from under it."""
        stream, pipe = self.stream(), self.pipe
        self.until_denoising(stream)
        join = stream._job.thread.join

        def begin_again(*args):
            join(*args)
            others.append(pipe.stream("a dog", width=48, height=32, num_inference_steps=MANY))

        others = []
        stream._job.thread.join = begin_again
        pipe.close()
        with self.assertRaises(flux1.Cancelled):
            list(others[0])

    def test_loras_of_a_call_end_with_it(self):
        self.draw(lora=LORA)
        gc.collect()
        self.assertEqual(len(self.pipe._adapters), 0)
        self.pipe.load_lora_weights(LORA)
        self.draw()
        gc.collect()
        self.assertEqual(len(self.pipe._adapters), 1)

    def test_closing_cancels(self):
        stream = self.stream()
        self.until_denoising(stream)
        stream.close()
        self.assertEqual(list(stream), [])
        self.assertEqual(len(self.draw()), 1)

    def test_letting_go_cancels(self):
        stream = self.stream()
        self.until_denoising(stream)
        del stream
        self.assertEqual(len(self.draw()), 1)  # it waits for the other's end

    def test_cancel_from_another_thread(self):
        stream = self.stream()
        self.until_denoising(stream)
        threading.Thread(target=self.pipe.cancel).start()
        with self.assertRaises(flux1.Cancelled) as raised:
            list(stream)
        self.assertEqual((raised.exception.status, raised.exception.status_name), (7, "FLUX1_ERR_CANCELLED"))
        self.assertEqual(list(stream), [])

    def test_an_exception_in_progress_cancels(self):
        def stop(event):
            if event.step == 3:
                raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.draw(num_inference_steps=MANY, progress=stop)
        self.assertEqual(len(self.draw()), 1)

    def test_one_call_at_a_time(self):
        with self.stream() as stream:
            self.until_denoising(stream)
            with self.assertRaisesRegex(flux1.ArgumentError, r"at work.*copy\(\)"):
                self.draw()
            self.assertEqual(len(self.draw(pipe=self.pipe.copy())), 1)

    def test_closing_the_pipeline_ends_its_stream(self):
        stream = self.stream()
        self.until_denoising(stream)
        self.pipe.close()
        with self.assertRaises(flux1.Cancelled):
            list(stream)
        with self.assertRaisesRegex(flux1.ArgumentError, "closed"):
            self.draw()

    def test_two_pipelines_on_threads(self):
        """Each makes what it makes alone, and the interpreter runs beside them."""
        expected = {seed: self.draw(generator=seed, num_inference_steps=20)[0].pixels for seed in range(4)}
        found, pipes = {}, [self.pipe.copy(), self.pipe.copy()]

        def work(pipe, seeds):
            for seed in seeds:
                found[seed] = self.draw(pipe=pipe, generator=seed, num_inference_steps=20)[0].pixels

        threads = [threading.Thread(target=work, args=(pipe, range(i, 4, 2))) for i, pipe in enumerate(pipes)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(found, expected)

    def test_the_interpreter_runs_beside_a_call(self):
        with self.stream() as stream:
            self.until_denoising(stream)
            start, turns = time.monotonic(), 0
            while time.monotonic() - start < 0.2:
                turns += 1
            self.assertGreater(turns, 1000)

    def endless(self, code):
        return ("import flux1, os, sys\n"
                f"pipe = flux1.FluxPipeline.from_pretrained({PIPELINE!r})\n"
                f"request = dict(width=48, height=32, num_inference_steps={MANY}, generator=1, output_type='picture')\n" + code)

    def test_an_interrupt_cancels(self):
        code = self.endless("import signal\n"
                            "def tell(event):\n"
                            "    if event.step == 3: os.kill(os.getpid(), signal.SIGINT)\n"
                            "pipe('a red fox', progress=tell, **request)\n")
        status, err = python(code)
        self.assertIn(status, (-signal.SIGINT, 130))
        self.assertIn("KeyboardInterrupt", err)

    def test_a_program_that_fails_does_not_wait_for_its_pictures(self):
        code = self.endless("import atexit\n"
                            "del request['output_type']\n"
                            "stream = pipe.stream('a red fox', **request)\n"
                            "job = stream._job\n"
                            "atexit.register(lambda: print(type(job.error).__name__, file=sys.stderr))\n"
                            "for event in stream:\n"
                            "    if event.step == 3: raise SystemError('enough')\n")
        status, err = python(code)
        self.assertEqual(status, 1)
        self.assertRegex(err, "SystemError: enough\nCancelled\n$")


class Errors(Case):
    def test_a_failed_call_raises_the_librarys_sentence(self):
        with self.assertRaisesRegex(flux1.ModelError, "/no/such/model"):
            flux1.FluxPipeline.from_pretrained("/no/such/model")
        with self.assertRaisesRegex(flux1.UnsupportedError, "tpu"):
            flux1.FluxPipeline.from_pretrained(PIPELINE, device="tpu")
        with self.assertRaisesRegex(flux1.LimitError, "memory"):
            flux1.FluxPipeline.from_pretrained(PIPELINE, max_memory=1)("a red fox", output_type="picture")
        with self.assertRaisesRegex(flux1.Flux1Error, "nothing.safetensors"):
            self.draw(lora="nothing.safetensors")
        with self.assertRaisesRegex(flux1.FileError, "none/a.png") as raised:
            self.draw()[0].save(self.folder / "none" / "a.png")
        self.assertIsInstance(raised.exception, OSError)
        self.assertEqual((raised.exception.status, raised.exception.status_name), (3, "FLUX1_ERR_IO"))
        with self.assertRaisesRegex(flux1.ArgumentError, r"a\.GIF: pictures are written as PNG, JPEG or WebP"):
            self.draw()[0].save(self.folder / "a.GIF")
        self.assertEqual(self.saved(self.draw()[0], "a.gif", format="png"), self.saved(self.draw()[0]))

    def test_each_status_has_its_class(self):
        names = {n for n, v in vars(_interface).items() if n.startswith("FLUX1_ERR_")}
        self.assertEqual(names, {k.status_name for k in flux1.Flux1Error.__subclasses__()})
        self.assertEqual(len(names), 12)

    def test_arguments_are_checked_before_ctypes_cuts_them_off(self):
        for request, sentence in (({"width": 2**32 + 48}, "width 4294967344: it must be from 0 to 2147483647"),
                                  ({"generator": -1}, "generator -1: it must be from 0"),
                                  ({"generator": 2**64}, "generator 18446744073709551616"),
                                  ({"generator": 2**64 - 1, "num_images_per_prompt": 2}, "seed would be above"),
                                  ({"generator": [1, 2]}, "2 seeds for 1 pictures"),
                                  ({"num_inference_steps": 0}, "num_inference_steps 0"),
                                  ({"num_images_per_prompt": 0}, "num_images_per_prompt 0"),
                                  ({"guidance_scale": -2}, "guidance_scale -2"),
                                  ({"guidance_scale": float("nan")}, "guidance_scale nan: it must be a finite number"),
                                  ({"guidance_scale": 1e300}, r"guidance_scale 1e\+300: it must be a finite number"),
                                  ({"true_cfg_scale": 10**400}, "true_cfg_scale inf: it must be a finite number"),
                                  ({"negative_prompt": ["a", "b"]}, "negative_prompt: 2 for 1 prompt$"),
                                  ({"tiling": "never"}, "tiling 'never': known are auto, bands, no, yes"),
                                  ({"rng": "tpu"}, "rng 'tpu': known are cpu, cuda"),
                                  ({"lora": [LORA] * 17}, "at most 16")):
            with self.subTest(request), self.assertRaisesRegex(flux1.ArgumentError, sentence):
                self.draw(**request)
        for prompt, sentence in (("a\0b", "NUL"), ("a \ud800", "Unicode"), ([], "empty list")):
            with self.subTest(prompt), self.assertRaisesRegex(flux1.ArgumentError, sentence):
                self.draw(prompt)
        for request in ({"width": "48"}, {"width": 48.0}, {"guidance_scale": "3"}, {"generator": "7"}, {"step_cache": "a"}, {"lora": 3},
                        {"negative_prompt": 3}, {"prompt": None}, {"prompt": ["a", None]}):
            with self.subTest(request), self.assertRaises(TypeError):
                self.draw(**request)
        for options, sentence in (({"dtype": "float16"}, "dtype 'float16': known are auto, bf16, f32"), ({"threads": -1}, "threads -1")):
            with self.subTest(options), self.assertRaisesRegex(flux1.ArgumentError, sentence):
                flux1.FluxPipeline.from_pretrained(PIPELINE, **options)
        with self.assertRaisesRegex(flux1.ArgumentError, "a model's path"):
            flux1.FluxPipeline.from_pretrained()
        with self.assertRaisesRegex(flux1.ArgumentError, "output_type 'latent': known are pil, np, picture"):
            self.pipe("a red fox", output_type="latent")
        self.assertEqual(len(self.draw()), 1)

    def test_notes_go_to_the_log(self):
        with self.assertLogs("flux1", logging.INFO) as log:
            self.draw(width=50)
        self.assertIn("48", "".join(log.output))


class Library(Case):
    def test_the_models_facts(self):
        info = self.pipe.info
        self.assertEqual((info.name, info.variant, info.guidance, info.default_steps), ("schnell", "schnell", False, 4))
        self.assertEqual(info.part_dtypes, ("F32",) * 4)
        self.assertGreater(min(info.part_bytes), 1000)

    def test_every_struct_of_the_stable_header_is_described(self):
        """flux1_struct_size has a row for each, and ctypes lays it out as the compiler has."""
        header = (Path(SOURCE) / "include" / "flux1.h").read_text()
        stable = [n for n in _interface.STRUCTS if f"}} {n};" in header]
        self.assertEqual(len(stable), 11)
        for name in stable:
            self.assertEqual(lib.flux1_struct_size(name.encode()), ctypes.sizeof(_interface.STRUCTS[name]), name)
        self.assertEqual([lib.flux1_struct_size(b"flux1_nothing"), lib.flux1_struct_size(None)], [0, 0])

    def test_another_library_is_refused(self):
        for library, sentence in (("libm.so.6", "has no flux1_version"), ("/no/such.so", "cannot be opened")):
            status, err = python("import flux1", FLUX1_LIBRARY=library)
            self.assertEqual(status, 1)
            self.assertRegex(err, "ImportError: .*" + sentence)
        for change, sentence in (("i.VERSION = (9, 1, 0)", "this package is made for 9.1.0"),
                                 ("i.flux1_image = i.STRUCTS['flux1_image'] = i.flux1_write_params", "flux1_image has [0-9]* bytes, this package is made for [0-9]*")):
            code = "import sys, importlib.util, types\n" \
                   "spec = importlib.util.find_spec('flux1'); package = types.ModuleType('flux1'); package.__path__ = spec.submodule_search_locations\n" \
                   f"sys.modules['flux1'] = package\nimport flux1._interface as i\n{change}\nimport flux1._library\n"
            status, err = python(code)
            self.assertRegex(err, "ImportError: .*" + sentence)

    def test_a_header_becomes_ctypes(self):
        """By hand: what each kind of declaration gives; one of another kind is refused."""
        sys.path.insert(0, str(Path(SOURCE) / "python"))
        from make_interface import Interface
        found = Interface()
        found.read('#define FLUX1_VERSION_MAJOR 3\n/* a; b */ typedef struct x x;\ntypedef enum e { A = 0, B = 4 } e;\n'
                   'typedef struct s { size_t size; const char *a, *b; x *h; int n[4]; void (*log)(void *u, e level, const char *m); '
                   'const char *const *list; } s;\nAPI_NOT\nvoid f(s *one, const s *const *many, char **json, x **out);\n'.replace("API_NOT\n", "FLUX1_API "))
        self.assertEqual(found.version, {"MAJOR": 3})
        self.assertEqual(found.enums, {"e": [("A", 0), ("B", 4)]})
        self.assertEqual(found.structs["s"], [("size", "c_size_t"), ("a", "c_char_p"), ("b", "c_char_p"), ("h", "c_void_p"), ("n", "c_int * 4"),
                                              ("log", "CFUNCTYPE(None, c_void_p, c_int, c_char_p)"), ("list", "POINTER(c_char_p)")])
        self.assertEqual(found.functions, {"f": ("None", ["POINTER(s)", "POINTER(POINTER(s))", "POINTER(c_void_p)", "POINTER(c_void_p)"])})
        for text in ("typedef union u { int a; } u;", "int x;", "typedef struct y { wchar_t c; } y;", "typedef enum z { C } z;", "void g(void)"):
            with self.subTest(text), self.assertRaises(SystemExit):
                Interface().read(text)


if __name__ == "__main__":
    unittest.main()
