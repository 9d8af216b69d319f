"""The Python clients openai and webuiapi against a running server. clients.sh has them installed. usage: clients.py FLUX1 MODEL ADAPTER"""
import base64, io, os, sys, threading, time, urllib.request, warnings
import openai, webuiapi
from PIL import Image
from serving import Server, check, command_line_picture, finish, scratch

program, model, adapter = sys.argv[1:4]
folder = scratch()
KEY = "sesame"
PROMPT = "a red fox"


def picture(text):
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


def same(a, b):
    return a.size == b.size and a.tobytes() == b.tobytes()


def raises(kind, words, call):
    """The exception that the client makes of an answer, with the server's sentence in it."""
    try:
        call()
    except kind as e:
        check(words in str(e), "%s: %s" % (kind.__name__, e))
        return e
    except Exception as e:
        check(False, "%s expected, got %s: %s" % (kind.__name__, type(e).__name__, e))
    else:
        check(False, "%s expected, nothing was raised" % kind.__name__)


# ---- openai ----


def openai_pictures(client, expected):
    a = client.images.generate(model="gpt-image-1", prompt=PROMPT, size="64x48", n=2, extra_body={"steps": 2, "seed": 7})
    check(len(a.data) == 2 and same(picture(a.data[0].b64_json), expected) and a.size == "64x48" and a.output_format == "png", "openai: b64_json")
    a = client.images.generate(model="dall-e-3", prompt=PROMPT, size="64x48", quality="hd", style="vivid", user="u", extra_body={"steps": 2, "seed": 7})
    request = urllib.request.Request(a.data[0].url, headers={"Authorization": "Bearer " + KEY})
    check(same(Image.open(io.BytesIO(urllib.request.urlopen(request).read())).convert("RGB"), expected), "openai: url")
    for form, kind in (("jpeg", "JPEG"), ("webp", "WEBP")):
        a = client.images.generate(prompt=PROMPT, size="64x48", output_format=form, output_compression=90, moderation="low", background="opaque", extra_body={"steps": 2})
        check(Image.open(io.BytesIO(base64.b64decode(a.data[0].b64_json))).format == kind, "openai: output_format %s" % form)
    raw = client.images.with_raw_response.generate(prompt=PROMPT, size="64x48", extra_body={"steps": 2, "seed": 7, "sampler": "Euler a"})
    check(any("sampler" in note for note in raw.parse().model_extra["flux1"]["notes"]), "openai: what was ignored is told")


def openai_stream(client, expected):
    events = list(client.images.generate(model="gpt-image-1", prompt=PROMPT, size="64x48", stream=True, partial_images=3, extra_body={"steps": 8, "seed": 7}))
    kinds = [e.type for e in events]
    check(kinds[-1] == "image_generation.completed" and kinds.count(kinds[-1]) == 1 and set(kinds[:-1]) <= {"image_generation.partial_image"}, "openai: stream: %s" % kinds)
    check(all(0 <= e.partial_image_index < 3 and e.size == "64x48" and e.b64_json for e in events[:-1]), "openai: partial images")
    check(picture(events[-1].b64_json).size == (64, 48) and isinstance(events[-1].created_at, int), "openai: the completed event")
    check(events[-1].usage.total_tokens == 256 + 12 and events[-1].usage.input_tokens_details.text_tokens == 256, "openai: usage: %s" % events[-1].usage)
    # two pictures in one stream: each completes
    events = list(client.images.generate(prompt=PROMPT, size="64x48", stream=True, n=2, extra_body={"steps": 2, "seed": 7}))
    done = [e for e in events if e.type == "image_generation.completed"]
    check(len(done) == 2 and same(picture(done[0].b64_json), expected), "openai: a stream of two: %s" % [e.type for e in events])


def openai_models(client):
    ids = [m.id for m in client.models.list()]
    check(ids and client.models.retrieve(ids[0]).owned_by == "flux1", "openai: models: %s" % ids)
    e = raises(openai.NotFoundError, "there is no model", lambda: client.models.retrieve("sdxl"))
    check(e is not None and e.code == "model_not_found", "openai: the code of a model")
    a = client.images.generate(model=ids[0], prompt=PROMPT, size="64x48", extra_body={"steps": 1})
    check(a.data[0].b64_json, "openai: a model of the list")


def openai_errors(server, client):
    raises(openai.BadRequestError, "\"size\" must be", lambda: client.images.generate(prompt=PROMPT, size="huge"))
    e = raises(openai.BadRequestError, "there is no model", lambda: client.images.generate(prompt=PROMPT, model="sdxl"))
    check(e is not None and e.param == "model" and e.type == "invalid_request_error" and e.code == "invalid_value", "openai: the error's fields")
    raises(openai.BadRequestError, "would fit", lambda: client.images.generate(prompt=PROMPT, size="60000x60000"))
    raises(openai.BadRequestError, "from text alone", lambda: client.images.edit(image=("a.png", b"\x89PNG\r\n\x1a\n", "image/png"), prompt=PROMPT))
    warnings.simplefilter("ignore", DeprecationWarning)  # of variations, which the client still has
    raises(openai.BadRequestError, "from text alone", lambda: client.images.create_variation(image=("a.png", b"\x89PNG\r\n\x1a\n", "image/png")))
    e = raises(openai.AuthenticationError, "the key is not one", lambda: client.with_options(api_key="wrong").models.list())
    check(e is not None and e.code == "invalid_api_key" and e.param is None, "openai: the code of a wrong key")
    azure = openai.AzureOpenAI(base_url=str(client.base_url), api_key=KEY, api_version="2025-04-01-preview", max_retries=0)
    check(azure.images.generate(prompt=PROMPT, size="64x48", extra_body={"steps": 1}).data, "openai: Azure's client, which has its key in api-key")
    raises(openai.AuthenticationError, "the key is not one", lambda: azure.with_options(api_key="wrong").images.generate(prompt=PROMPT))
    # a full queue, and that the client's own repetitions get through when there is room again
    jobs = [server.call("POST", "/api/jobs", {"prompt": "long", "width": 64, "height": 64, "steps": 10000}, {"Authorization": "Bearer " + KEY}) for _ in range(4)]
    check([status for status, _ in jobs] == [202] * 4, "the queue takes four")
    while True:
        status, job = server.call("POST", "/api/jobs", {"prompt": "long", "steps": 10000}, {"Authorization": "Bearer " + KEY})
        if status == 429:
            break
        jobs.append((status, job))
    raises(openai.RateLimitError, "jobs are waiting", lambda: client.images.generate(prompt=PROMPT, size="64x48"))
    for _, job in jobs:
        server.call("DELETE", "/api/jobs/" + job["id"], None, {"Authorization": "Bearer " + KEY})
    check(client.with_options(max_retries=3).images.generate(prompt=PROMPT, size="64x48", extra_body={"steps": 1}).data, "openai: after a full queue")


def openai_leaves(server, client):
    """A client that gives up takes its job with it."""
    try:
        client.with_options(timeout=1.5).images.generate(prompt=PROMPT, size="64x48", extra_body={"steps": 10000})
        check(False, "openai: a timeout expected")
    except openai.APITimeoutError:
        pass
    until = time.monotonic() + 20
    while time.monotonic() < until:
        state = server.call("GET", "/api/jobs?limit=1", None, {"Authorization": "Bearer " + KEY})[1]["jobs"][0]["state"]
        if state == "cancelled":
            return
        time.sleep(0.05)
    check(False, "openai: the job of a client that left is %s" % state)


# ---- webuiapi ----


def webui_pictures(api, expected):
    r = api.txt2img(prompt=PROMPT, negative_prompt="ugly", seed=7, steps=2, width=64, height=48, batch_size=2, cfg_scale=7, sampler_name="DPM++ 2M", scheduler="Karras")
    check(len(r.images) == 2 and same(r.images[0].convert("RGB"), expected), "webuiapi: txt2img")
    check(r.info["seed"] == 7 and r.info["all_seeds"] == [7, 8] and r.info["infotexts"][0].startswith(PROMPT) and r.parameters["width"] == 64, "webuiapi: info")
    facts = api.png_info(r.images[0])
    check(facts.info.startswith(PROMPT) or facts.info == "", "webuiapi: png_info: %s" % facts.info)
    r = api.txt2img(prompt=PROMPT + "<lora:one:0>", seed=7, steps=2, width=64, height=48)
    check(same(r.image.convert("RGB"), expected), "webuiapi: a LoRA of strength 0 changes nothing")
    r = api.txt2img(prompt=PROMPT + "<lora:one:2>", seed=7, steps=2, width=64, height=48, n_iter=2)
    check(len(r.images) == 2 and not same(r.images[0].convert("RGB"), expected), "webuiapi: a LoRA changes the picture")


def webui_lists(api):
    name = api.util_get_current_model()
    check([m["title"] for m in api.get_sd_models()] == [name] == api.util_get_model_names(), "webuiapi: models")
    api.util_set_model(name)
    api.set_options({"CLIP_stop_at_last_layers": 2})
    check(api.get_samplers()[0]["name"] == "Euler" and api.get_schedulers()[0]["name"], "webuiapi: samplers")
    check([l["name"] for l in api.get_loras()] == ["one"], "webuiapi: loras")
    for call in (api.get_upscalers, api.get_latent_upscale_modes, api.get_sd_vae, api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models, api.get_prompt_styles,
                 api.get_embeddings, api.get_scripts, api.get_cmd_flags, api.refresh_checkpoints):
        answer = call()
        check(answer is None or "error" not in answer, "webuiapi: %s: %s" % (call.__name__, answer))


def webui_progress(api):
    failed = []

    def make():
        try:
            api.txt2img(prompt=PROMPT, steps=10000, width=64, height=48)
        except RuntimeError as e:
            failed.append(str(e))

    thread = threading.Thread(target=make)
    thread.start()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        now = api.get_progress()
        if now["current_image"]:
            break
        time.sleep(0.02)
    check(now["state"]["sampling_steps"] == 10000 and picture(now["current_image"]).size == (64, 48), "webuiapi: progress: %s" % now["state"])
    api.interrupt()
    thread.join(60)
    check(not thread.is_alive() and len(failed) == 1 and "503" in failed[0], "webuiapi: interrupt: %s" % failed)
    api.util_wait_for_ready(check_interval=0.1)


def webui_errors(api):
    for words, arguments in (("at least 16", {"width": 8}), ("must be", {"steps": -1}), ("there is no", {"prompt": "<lora:two:1>"})):
        raises(RuntimeError, words, lambda: api.txt2img(**dict({"prompt": PROMPT, "width": 64, "height": 48, "steps": 2}, **arguments)))
    raises(RuntimeError, "from text alone", lambda: api.img2img(images=[Image.new("RGB", (64, 48))], prompt=PROMPT))


os.makedirs(folder + "/loras")
os.symlink(adapter, folder + "/loras/one.safetensors")
expected = Image.open(io.BytesIO(command_line_picture(program, model, folder, PROMPT, 64, 48, 2, 7))).convert("RGB")
server = Server(program, model, folder + "/log", "--port", "0", "--queue", "4", "--api-key", KEY, "--loras", folder + "/loras")
client = openai.OpenAI(base_url="http://127.0.0.1:%d/v1" % server.port, api_key=KEY, max_retries=0)
openai_pictures(client, expected)
openai_stream(client, expected)
openai_models(client)
openai_errors(server, client)
openai_leaves(server, client)
api = webuiapi.WebUIApi(host="127.0.0.1", port=server.port, username="anyone", password=KEY)
webui_pictures(api, expected)
webui_lists(api)
webui_progress(api)
webui_errors(api)
check(server.stop() == 0, "exit status")
finish()
