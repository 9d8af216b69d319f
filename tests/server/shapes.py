"""Requests as the programs send them that people already use: Open WebUI, LibreChat, SillyTavern, curl. The fields, their order of calls and what each reads of an
answer are facts of their sources (open_webui/routers/images.py, api/app/clients/tools/structured/{StableDiffusion,OpenAIImageTools,DALLE3}.js,
SillyTavern's endpoints/stable-diffusion.js and its extension). Sizes and steps are small here. usage: shapes.py FLUX1 MODEL"""
import base64, json, re, sys, threading, time
from serving import Server, call, check, command_line_picture, finish, pixels, scratch

program, model = sys.argv[1:3]
folder = scratch()
SIZE = (64, 64)
PROMPT = "a red fox, 4k"
KEY = "sesame"


def is_picture(text, size=SIZE):
    """What every one of these clients does with base64: no white space, no data: in front, a whole PNG."""
    try:
        return re.fullmatch(r"[A-Za-z0-9+/]+=*", text) is not None and pixels(base64.b64decode(text, validate=True))[0] == size
    except ValueError:
        return False


# ---- Open WebUI ----


def open_webui_openai(port):
    headers = {"Authorization": "Bearer " + KEY}
    sent = {"model": "dall-e-3", "prompt": PROMPT, "n": 1, "size": "64x64", "response_format": "b64_json"}
    status, a = call(port, "POST", "/v1/images/generations", sent, headers)
    check(status == 200 and is_picture(a["data"][0]["b64_json"]) and not a["data"][0].get("url"), "Open WebUI, openai: %s" % status)
    # of gpt-image models it asks for no format; an Azure-like version may be in the query; it may tell who the user is
    status, a = call(port, "POST", "/v1/images/generations?api-version=2025-04-01-preview", {"model": "gpt-image-1", "prompt": PROMPT, "n": 2, "size": "64x64"},
                     dict(headers, **{"X-OpenWebUI-User-Name": "A", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Role": "user"}))
    check(status == 200 and all(is_picture(d["b64_json"]) for d in a["data"]) and len(a["data"]) == 2, "Open WebUI, gpt-image: %s" % status)
    # a url is fetched with the same headers, and its type must be a picture's
    status, a = call(port, "POST", "/v1/images/generations", dict(sent, response_format="url"), headers)
    path = a["data"][0]["url"].split(str(port), 1)[1]
    status, png = call(port, "GET", path, None, headers, raw=True)
    check(status == 200 and pixels(png)[0] == SIZE, "Open WebUI, url")


def open_webui_webui(port):
    headers = {"authorization": "Basic " + base64.b64encode(("user:" + KEY).encode()).decode()}
    status, options = call(port, "GET", "/sdapi/v1/options", None, headers)
    check(status == 200 and options["sd_model_checkpoint"], "Open WebUI, options")
    models = call(port, "GET", "/sdapi/v1/sd-models", None, headers)[1]
    check([m["title"] for m in models] and all("model_name" in m for m in models), "Open WebUI, sd-models")
    # to choose a model it sends all options back
    check(call(port, "POST", "/sdapi/v1/options", dict(options, sd_model_checkpoint=models[0]["title"]), headers)[0] == 200, "Open WebUI, set options")
    sent = {"prompt": PROMPT, "batch_size": 2, "width": 64, "height": 64, "steps": 3, "negative_prompt": "blurry", "sampler_name": "DPM++ 2M", "scheduler": "Karras", "cfg_scale": 7.0}
    status, a = call(port, "POST", "/sdapi/v1/txt2img", sent, headers)
    check(status == 200 and len(a["images"]) == 2 and all(map(is_picture, a["images"])) and "info" in a, "Open WebUI, txt2img: %s" % status)
    # of a field that is not set it sends null
    status, a = call(port, "POST", "/sdapi/v1/txt2img", dict(sent, negative_prompt=None, batch_size=1), headers)
    check(status == 200 and len(a["images"]) == 1, "Open WebUI, a null: %s %s" % (status, a if status != 200 else ""))


def open_webui_without_key(port):
    """Where no login is set the header is there and empty."""
    check(call(port, "GET", "/sdapi/v1/options", None, {"authorization": ""})[0] == 200, "Open WebUI, an empty authorization")


# ---- LibreChat ----


def librechat_webui(port):
    sent = {"prompt": PROMPT, "negative_prompt": "lowres", "cfg_scale": 4.5, "steps": 3, "width": 64, "height": 64}
    status, a = call(port, "POST", "/sdapi/v1/txt2img", sent)
    info = json.loads(a["info"])
    check(status == 200 and is_picture(a["images"][0].split(",", 1)[0]) and (info["width"], info["height"]) == SIZE and isinstance(info["seed"], int),
          "LibreChat, txt2img: %s" % status)
    check("Seed: %d" % info["seed"] in info["infotexts"][0].split("\n")[-1], "LibreChat, the last line: %s" % info["infotexts"])
    status, a = call(port, "POST", "/sdapi/v1/txt2img", dict(sent, sampler_index="DPM++ 2M Karras"))  # its earlier versions
    check(status == 200 and any("DPM++ 2M Karras" in n for n in json.loads(a["info"])["notes"]), "LibreChat, sampler_index")


def librechat_openai(port):
    headers = {"Authorization": "Bearer " + KEY, "User-Agent": "OpenAI/JS 5.10.1", "X-Stainless-Lang": "js", "X-Stainless-Retry-Count": "0"}
    sent = {"model": "gpt-image-1", "prompt": PROMPT, "n": 1, "background": "auto", "output_format": "png", "quality": "auto", "size": "auto"}
    status, a = call(port, "POST", "/v1/images/generations", sent, headers)
    check(status == 200 and a["data"][0]["b64_json"], "LibreChat, image_gen_oai: %s" % status)
    status, a = call(port, "POST", "/v1/images/generations", dict(sent, output_format="webp", output_compression=80, background="transparent", size="64x64"), headers)
    check(status == 200 and base64.b64decode(a["data"][0]["b64_json"])[8:12] == b"WEBP", "LibreChat, webp: %s" % status)
    status, a = call(port, "POST", "/v1/images/generations", {"model": "dall-e-3", "quality": "hd", "style": "natural", "size": "64x64", "prompt": PROMPT, "n": 1, "response_format": "url"}, headers)
    check(status == 200 and a["data"][0]["url"].startswith("http://127.0.0.1:%d/api/files/" % port), "LibreChat, DALL-E 3: %s" % status)
    boundary = "--------------------------0123456789"
    form = "".join("--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n" % (boundary, k, v) for k, v in
                   (("model", "gpt-image-1"), ("prompt", PROMPT), ("quality", "auto"), ("size", "auto")))
    form += "--%s\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--%s--\r\n" % (boundary, boundary)
    status, a = call(port, "POST", "/v1/images/edits", form.encode("latin-1"), dict(headers, **{"Content-Type": "multipart/form-data; boundary=" + boundary}))
    check(status == 400 and "text alone" in a["error"]["message"], "LibreChat, image_edit_oai: %s %s" % (status, a))


# ---- SillyTavern ----


def sillytavern(port):
    headers = {"Authorization": "Basic " + base64.b64encode((":" + KEY).encode()).decode()}
    get = lambda path: call(port, "GET", "/sdapi/v1/" + path, None, headers)
    check(get("options")[0] == 200, "SillyTavern, ping")
    names = {path: get(path) for path in ("upscalers", "latent-upscale-modes", "samplers", "schedulers")}
    check(all(status == 200 and all(x["name"] for x in answer) for status, answer in names.values()) and names["samplers"][1] and names["schedulers"][1], "SillyTavern, lists: %s" % names)
    check(all(isinstance(get(path)[1], list) for path in ("sd-vae", "sd-modules")), "SillyTavern, VAEs")
    title = get("sd-models")[1][0]["title"]
    check(call(port, "POST", "/sdapi/v1/options", {"sd_model_checkpoint": title}, headers)[0] == 200, "SillyTavern, set-model")
    now = get("progress")[1]  # it waits until this says that nothing is in work
    check(now["progress"] == 0 and now["state"]["job_count"] == 0, "SillyTavern, progress: %s" % now)
    sent = {"url": "http://localhost:7860", "auth": ":" + KEY, "prompt": PROMPT, "negative_prompt": "lowres, bad anatomy", "sampler_name": "Euler a", "scheduler": "Automatic",
            "steps": 3, "cfg_scale": 7, "width": 64, "height": 64, "restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 2, "hr_additional_modules": [],
            "denoising_strength": 0.7, "hr_second_pass_steps": 0, "override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": True, "clip_skip": 1,
            "save_images": True, "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False}
    status, a = call(port, "POST", "/sdapi/v1/txt2img", sent, headers)
    check(status == 200 and is_picture(a["images"][0]), "SillyTavern, txt2img: %s" % status)
    check(PROMPT == a["parameters"]["prompt"] and not any("sesame" in json.dumps(v) for v in (a["parameters"], a["info"])), "SillyTavern, its login is not told again")
    # when the user stops it: its socket is closed and interrupt is posted, without a body
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call(port, "POST", "/sdapi/v1/txt2img", dict(sent, steps=10000), headers)))
    thread.start()
    until = time.monotonic() + 60
    while get("progress")[1]["progress"] == 0 and time.monotonic() < until:
        time.sleep(0.02)
    check(call(port, "POST", "/sdapi/v1/interrupt", None, headers)[0] == 200, "SillyTavern, interrupt")
    thread.join()
    check(answers[0][0] != 200, "SillyTavern, what was interrupted")


# ---- keys ----


def wrong_keys(port):
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + base64.b64encode(b"sesame:x").decode()}):
        check(call(port, "GET", "/sdapi/v1/options", None, headers)[0] == 401 and call(port, "GET", "/v1/models", None, headers)[0] == 401, "keys: %s" % headers)


def same_picture(port):
    """Whichever interface asks, the picture is the command line's."""
    expected = pixels(command_line_picture(program, model, folder, PROMPT, 64, 64, 3, 11))
    openai = call(port, "POST", "/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "steps": 3, "seed": 11})[1]["data"][0]["b64_json"]
    webui = call(port, "POST", "/sdapi/v1/txt2img", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 3, "seed": 11, "cfg_scale": 7})[1]["images"][0]
    check(pixels(base64.b64decode(openai)) == expected and pixels(base64.b64decode(webui)) == expected, "pictures are the command line's")


locked = Server(program, model, folder + "/locked.log", "--port", "0", "--api-key", KEY)
for part in (open_webui_openai, open_webui_webui, librechat_openai, sillytavern, wrong_keys):
    part(locked.port)
check(locked.stop() == 0, "exit status")
free = Server(program, model, folder + "/free.log", "--port", "0")
for part in (open_webui_without_key, librechat_webui, same_picture):
    part(free.port)
check(free.stop() == 0, "exit status")
finish()
