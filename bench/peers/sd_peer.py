"""stable-diffusion.cpp behind serve.py's protocol: a request is one run of its program, the answer a stage's seconds
less the time it took to load weights.

usage: sd_peer.py --sd PROGRAM --model DIR [--type file|f16|bf16|q8_0|q4_0] [--options "--fa"]

PROGRAM is sd-cli, built by its own instructions. One run answers all stages of a size and text length, and each of its
figures is handed out once: ask for dit, t5 and vae of one size in a row. --type other than file: converted at loading,
which is not counted. CLIP is timed together with T5. The transformer is a file of holes in BFL's names, made beside the
others. It reports seconds of the clock on the wall: not for --clock cpu."""
import argparse
import glob
import importlib.util
import json
import os
import re
import subprocess
import sys

THREADS = os.environ.get("PEER_THREADS", "2")
SHORT = "a red fox in the snow, early morning, long shadows"
LONG = " ".join(["fox"] * 300)  # sd.cpp encodes text in pieces of 256 tokens
ENDS = (("t5", "get_learned_condition completed"), ("dit", "sampling completed"),
        ("vae", "decode_first_stage completed"))


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sd", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--type", default="file")
    p.add_argument("--options", default="--fa")
    return p.parse_args()


def original(model):
    """The transformer's file in BFL's names, as deep as the folder's."""
    path = f"{model}/original.safetensors"
    if not os.path.exists(path):
        tools = f"{os.path.dirname(os.path.abspath(__file__))}/../../tools/peer_stable_diffusion.py"
        spec = importlib.util.spec_from_file_location("peer_stable_diffusion", tools)
        names = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(names)
        with open(f"{model}/transformer/config.json") as f:
            config = json.load(f)
        names.write_holes(path + ".part", names.original_dit(config["num_layers"], config["num_single_layers"]))
        os.replace(path + ".part", path)
    return path


def command(o, size, text):
    def one(pattern):
        found = glob.glob(f"{glob.escape(o.model)}/{pattern}")
        if not found:
            raise RuntimeError(f"{o.model} has no {pattern}")
        return found[0]

    line = [o.sd, "--diffusion-model", original(o.model), "--clip_l", one("text_encoder/*.safetensors"), "--t5xxl",
            one("text_encoder_2/*.safetensors"), "--vae", one("vae/*.safetensors"), "-p",
            SHORT if text <= 256 else LONG, "-W", str(size), "-H", str(size), "--steps", "1", "--cfg-scale", "1",
            "--sampling-method", "euler", "-s", "1", "-t", THREADS, "-o", f"{o.model}/sd.png", "-v"]
    return line + (["--type", o.type] if o.type != "file" else []) + o.options.split()


def seconds_of(log):
    """Of each stage, from what sd-cli prints, without loading."""
    row, before = {}, 0
    for stage, end in ENDS:
        at = re.search(rf"{end}, taking ([0-9.]+)s", log)
        if not at:
            raise RuntimeError(f'no "{end}" in what sd-cli printed: {log[-300:]}')
        loads = re.findall(r"loading tensors completed, taking ([0-9.]+)s", log[before:at.start()])
        row[stage], before = float(at.group(1)) - sum(map(float, loads)), at.end()
    return row


def run(o, size, text):
    done = subprocess.run(command(o, size, text), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"sd-cli: {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return seconds_of(done.stdout + done.stderr) | {"size": size, "text": text}


def take(o, unused, stage, size, text):
    """A figure that was not handed out yet, or a new run's."""
    if stage == "clip":
        raise RuntimeError("sd.cpp times CLIP with T5: see t5")
    for row in unused:
        if stage in row and (stage == "t5" or row["size"] == size) and (stage == "vae" or row["text"] == text):
            return row.pop(stage)
    unused.append(run(o, size, text))
    return unused[-1].pop(stage)


def main():
    o = arguments()
    unused = []
    print(json.dumps({"ready": True, "peer": f"sd.cpp {o.type} {o.options}".strip(), "versions": o.sd}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            if "clock" not in ask:  # the runner's first, to warm up: files come into memory when they are read
                answer = {"warm": True, "seconds": 0.0}
            elif ask["clock"] == "cpu":
                answer = {"error": "sd.cpp tells seconds of the wall clock only"}
            else:
                answer = {"seconds": take(o, unused, ask["stage"], ask["size"] or 256, ask["text"] or 256)}
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {str(e)[:300]}"}
        print(json.dumps(answer), flush=True)


main()
