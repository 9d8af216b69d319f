#!/usr/bin/env python3
"""Pictures as PIL writes them with AUTOMATIC1111's parameters, and texts with what the web UI's own rule reads out of them.
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
    for name, text, compressed in (("a1111.png", A1111, False), ("forge.png", FORGE, True)):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("parameters", text, zip=compressed)
        image.save(folder / name, pnginfo=info)
    for name, code in (("be", "utf-16-be"), ("le", "utf-16-le")):  # piexif writes the first, others the second
        exif = image.getexif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode(code)
        image.save(folder / f"a1111_{name}.jpg", exif=exif)
        image.save(folder / f"a1111_{name}.webp", exif=exif, lossless=name == "le")
    image.save(folder / "plain.jpg", progressive=True)
    image.save(folder / "plain.webp")
    image.save(folder / "lossless.webp", lossless=True)


def main():
    tests = Path(sys.argv[1])
    image = Image.new("RGB", (64, 48), (200, 30, 20))
    save_pictures(tests / "data" / "pictures", image)
    save_pictures(tests / "fuzz" / "corpus" / "picture", image.resize((3, 2)))
    texts = [parse(t) for t in [A1111, FORGE, "", "just a prompt", "a\nSteps: 1, Seed: 2", *odd_texts()]]
    with open(tests / "data" / "pictures" / "infotexts.json", "w") as f:
        f.write("[" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts) + "]\n")


main()
