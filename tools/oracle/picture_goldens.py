#!/usr/bin/env python3
"""Pictures as PIL writes them with AUTOMATIC1111's parameters or ComfyUI's graphs, and texts with what the web UI's own rule reads out of them.
usage: picture_goldens.py TESTS_FOLDER   writes data/pictures/ and fuzz/corpus/picture/ below it
"""
import json
import random
import re
import sys
from pathlib import Path

from PIL import Image, PngImagePlugin

RULE = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # modules/infotext_utils.py

A1111 = ("a red fox, (best:1.2)\nÄpfel 狐狸 🦊\nNegative prompt: ugly, bad\nsecond: line\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, "
         'CFG scale: 7, Seed: 123456789012, Size: 64x48, Model hash: abc, Model: dev, Lora hashes: "a: 1, b: 2", Version: v1.9')
FORGE = ("a red fox\nNegative prompt: bad\nSteps: 3, Sampler: Euler, Schedule type: Simple, CFG scale: 1.5, Distilled CFG Scale: 3.5, Seed: 5, "
         "Size: 64x48, Model: dev, Version: f2.0.1v1.10.1, Diffusion in Low Bits: Automatic (fp16 LoRA)")

LORAS = ("a red fox <lora:kohya:0.5>, snow<lora:paper:1:0.25>\nNegative prompt: <lora:not:1>\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 5, Size: 32x32, "
         'Lora hashes: "kohya: 1a, paper: 2b", Version: v1.10.1')

CONTROLS = "a \x9b31mred\x1b[2J f\xf6x\nSteps: 3, Seed: 5, Size: 64x48"


def unquote(text):
    if len(text) == 0 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return json.loads(text)
    except Exception:
        return text


def parse(text):
    *lines, last = text.strip().split("\n")
    if len(RULE.findall(last)) < 3:
        lines.append(last)
        last = ""
    prompt = negative = ""
    in_negative = False
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            in_negative = True
            line = line[16:].strip()
        if in_negative:
            negative += ("" if negative == "" else "\n") + line
        else:
            prompt += ("" if prompt == "" else "\n") + line
    return {"text": text, "prompt": prompt, "negative_prompt": negative, "pairs": [[k, unquote(v)] for k, v in RULE.findall(last)]}


def odd_texts():
    chance = random.Random(13)
    pieces = ["Steps: 3", "Seed: 5", "Size: 8x8", "a", "é狐", " ", ",", ":", '"', "\\", "-", "/", "_", ".", "(", "\n", "Negative prompt:", 'Model: "a, b"', "x: y", "k-1: "]
    for _ in range(300):
        yield "".join(chance.choice(pieces) + chance.choice(["", "", ", "]) for _ in range(chance.randint(0, 14)))


def save_pictures(folder, image):
    for name, text, compressed in (("a1111.png", A1111, False), ("forge.png", FORGE, True), ("a1111_lora.png", LORAS, False)):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("parameters", text, zip=compressed)
        image.save(folder / name, pnginfo=info)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", CONTROLS)  # Latin-1, as A1111 writes a text that has room in it
    image.save(folder / "controls.png", pnginfo=info)
    for name, code in (("be", "utf-16-be"), ("le", "utf-16-le")):  # piexif writes the first, others the second
        exif = image.getexif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode(code)
        image.save(folder / f"a1111_{name}.jpg", exif=exif)
        image.save(folder / f"a1111_{name}.webp", exif=exif, lossless=name == "le")
    image.save(folder / "plain.jpg", progressive=True)
    image.save(folder / "plain.webp")
    image.save(folder / "lossless.webp", lossless=True)


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def flux_dev_graph():  # ComfyUI's example for FLUX.1 dev, with a LoRA and with the seed in a node of its own
    return {
        "6": node("CLIPTextEncode", text='a red fox, "Füchse" 狐', clip=["31", 1]),
        "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]) | {"is_changed": [float("nan")]},
        "10": node("VAELoader", vae_name="ae.safetensors"),
        "11": node("DualCLIPLoader", clip_name1="t5xxl_fp16.safetensors", clip_name2="clip_l.safetensors", type="flux"),
        "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "13": node("SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0], latent_image=["27", 0]),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", scheduler="simple", steps=3, denoise=1, model=["30", 0]),
        "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
        "25": node("RandomNoise", noise_seed=["40", 0]),
        "26": node("FluxGuidance", guidance=2.5, conditioning=["6", 0]),
        "27": node("EmptySD3LatentImage", width=64, height=48, batch_size=1),
        "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=64, height=48, model=["31", 0]),
        "31": node("LoraLoader", lora_name="flux\\paper.safetensors", strength_model=0.8, strength_clip=0.8, model=["12", 0], clip=["11", 0]),
        "40": node("PrimitiveInt", value=18446744073709551615),
    }


def ksampler_graph():
    return {
        "3": node("KSampler", seed=5, steps=2, cfg=1, sampler_name="dpmpp_2m", scheduler="karras", denoise=1, model=["4", 0], positive=["6", 0],
                  negative=["7", 0], latent_image=["5", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="flux1-schnell-fp8.safetensors"),
        "5": node("EmptyLatentImage", width=32, height=32, batch_size=1),
        "6": node("CLIPTextEncode", text="two owls", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
    }


def ksampler_workflow():  # what ComfyUI's user sees of the same
    def seen(id, kind, values, links):
        return {"id": id, "type": kind, "mode": 0, "widgets_values": values, "inputs": [{"name": n, "link": k} for n, k in links.items()]}

    return {"nodes": [
        seen(3, "KSampler", [5, "randomize", 2, 1, "euler", "simple", 1], {"model": 1, "positive": 2, "negative": 3, "latent_image": 4}),
        seen(4, "CheckpointLoaderSimple", ["flux1-schnell-fp8.safetensors"], {}),
        seen(5, "EmptyLatentImage", [32, 32, 1], {}),
        seen(6, "CLIPTextEncode", ["two owls"], {"clip": 5}),
        seen(7, "CLIPTextEncode", [""], {"clip": 6}),
    ], "links": [[1, 4, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"], [4, 5, 0, 3, 3, "LATENT"], [5, 4, 1, 6, 0, "CLIP"],
                 [6, 4, 1, 7, 0, "CLIP"]], "version": 0.4}


def part_graph():  # the second of two samplers that share the steps
    return ksampler_graph() | {"3": node("KSamplerAdvanced", add_noise="disable", noise_seed=5, steps=2, cfg=1, sampler_name="euler", scheduler="simple",
                                         start_at_step=1, end_at_step=10000, return_with_leftover_noise="disable", model=["4", 0], positive=["6", 0],
                                         negative=["7", 0], latent_image=["5", 0])}


def save_comfy(folder, image):
    two = ksampler_graph() | {"30": ksampler_graph()["3"]}
    for name, chunks in (("comfy_dev", {"prompt": flux_dev_graph()}), ("comfy_ksampler", {"prompt": ksampler_graph(), "workflow": ksampler_workflow()}),
                         ("comfy_workflow", {"workflow": ksampler_workflow()}), ("comfy_two", {"prompt": two}), ("comfy_part", {"prompt": part_graph()}),
                         ("other_prompt", {"prompt": "of another program"})):
        info = PngImagePlugin.PngInfo()
        for key, graph in chunks.items():
            info.add_text(key, json.dumps(graph))  # as its SaveImage does
        image.save(folder / f"{name}.png", pnginfo=info, compress_level=4)


def main():
    tests = Path(sys.argv[1])
    image = Image.new("RGB", (64, 48), (200, 30, 20))
    save_pictures(tests / "data" / "pictures", image)
    save_comfy(tests / "data" / "pictures", image)
    save_comfy(tests / "fuzz" / "corpus" / "picture", image.resize((3, 2)))
    save_pictures(tests / "fuzz" / "corpus" / "picture", image.resize((3, 2)))
    texts = [parse(t) for t in [A1111, FORGE, "", "just a prompt", "a\nSteps: 1, Seed: 2", *odd_texts()]]
    with open(tests / "data" / "pictures" / "infotexts.json", "w") as f:
        f.write("[" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts) + "]\n")


main()
