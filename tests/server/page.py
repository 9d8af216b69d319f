"""The page of flux1 serve in headless Chromium, by keyboard, in both themes and on a phone, against page_stand_in.py under
the strictest Content-Security-Policy; with a PROGRAM and a MODEL also against flux1 serve itself.
usage: page.py PAGE [PROGRAM MODEL] [--only RULE]     exit 77: no Chromium here"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from devtools import CONTROL, Browser, Page
from page_stand_in import StandIn, png

HOSTILE = "<img src=x onerror=document.title=1>\"'&<script>alert(1)</script>"
IDLE = "document.documentElement.dataset.state === 'connected'"
TILES = "[...document.querySelectorAll('#gallery .tile')]"
SHOWN = f"{TILES}.filter(t => t.querySelector('img.there')).length"


def check(truth, what):
    if not truth:
        raise AssertionError(what)


def opened(browser, url, **size):
    page = Page(browser, **size)
    page.open(url)
    page.until(IDLE, "the page has reached the server")
    return page


def generate(page, prompt):
    """Writes a prompt and starts it, by keyboard alone."""
    page.tab_to("prompt", backwards=True)
    page.replace(prompt)
    page.press("Enter", CONTROL)


def server_jobs(url):
    return json.load(urllib.request.urlopen(url + "api/jobs?limit=100"))["jobs"]


# ---- rules; each gets a browser and a stand-in that is started with its own settings ----

def a_picture_is_made_watched_and_made_again_by_keyboard(browser, stand_in, url):
    stand_in.step_seconds = 0.2
    page = opened(browser, url)
    page.until("!document.getElementById('empty').hidden", "an empty gallery says so")
    generate(page, "a red fox")
    page.until("document.querySelector('#jobs .job .preview img[src^=\"data:image\"]')", "a preview is shown")
    check(page.js("document.querySelector('#jobs [role=progressbar]').getAttribute('aria-valuenow') > 0"), "progress is told")
    page.until(f"{SHOWN} === 1", "the picture is in the gallery")
    page.until("document.getElementById('jobs-section').hidden", "no job is left")
    page.until("document.getElementById('spoken').textContent === '1 picture is ready.'", "a screen reader hears of it")
    first = server_jobs(url)[0]
    for i, (button, same) in enumerate([("viewer-again", True), ("viewer-vary", False)]):
        page.js("document.getElementById('gallery-heading').focus()")
        page.press("Tab")
        page.press("Enter")
        page.until("document.getElementById('viewer').open && document.getElementById('viewer-picture').naturalWidth === 64", "the picture is open")
        page.tab_to(button)
        page.press("Enter")
        page.until(f"{SHOWN} === {2 + i}", "it was made again")
        newest = server_jobs(url)[0]
        check((newest["request"]["seed"] == first["request"]["seed"]) == same, f"{button} and its seed")
        check(newest["request"]["prompt"] == "a red fox", "the prompt is the same")
    return page


def a_job_is_cancelled_by_keyboard(browser, stand_in, url):
    stand_in.step_seconds = 5
    page = opened(browser, url)
    generate(page, "one")
    page.until("document.querySelectorAll('#jobs .job').length === 1", "the first job is listed")
    generate(page, "two")
    page.until("document.querySelector('#jobs .job.waiting .doing')?.textContent.startsWith('Waiting, 1 job')", "the second waits and says so")
    page.js("document.getElementById('jobs-heading').focus()")
    page.press("Tab")
    page.press("Enter")
    page.until(f"{TILES}.length === 1", "the first is cancelled")
    page.until("document.querySelectorAll('#jobs .job').length === 1", "the second is left")
    check([j["state"] for j in server_jobs(url)][-1] == "cancelled", "the server knows it")
    check(page.js("document.activeElement.closest('#jobs-section') !== null"), "the focus stays with the jobs")
    return page


def the_gallery_and_its_dialogs_go_by_arrows_and_escape(browser, stand_in, url):
    for i in range(7):
        stand_in.add_done({"prompt": f"picture {i}", "seed": i}, 100 - i)
    page = opened(browser, url)
    page.until(f"{SHOWN} === 7", "all are shown")
    page.js(f"{TILES}[0].focus()")
    across = page.js(f"{TILES}.filter(t => t.getBoundingClientRect().top === {TILES}[0].getBoundingClientRect().top).length")
    at = f"{TILES}.indexOf(document.activeElement)"
    for key, place in [("ArrowRight", 1), ("ArrowDown", 1 + across), ("ArrowUp", 1), ("End", 6), ("ArrowRight", 6), ("Home", 0)]:
        page.press(key)
        check(page.js(at) == place, f"{key} goes to {place}, not to {page.js(at)}")
    check(page.js(f"{TILES}.filter(t => t.tabIndex === 0).length") == 1, "Tab stops at one of them")
    page.press("Enter")
    page.until("document.getElementById('viewer').open", "it opens")
    page.press("ArrowRight")
    check(page.js("document.getElementById('viewer-prompt').textContent") == "picture 5", "the viewer turns to the next")
    page.press("Escape")
    page.until(f"!document.getElementById('viewer').open && {at} === 1", "the focus is on the one that was seen last")
    page.press("Delete")
    page.until("document.getElementById('sure').open", "it asks before it deletes")
    page.press("Escape")
    page.until(f"!document.getElementById('sure').open && {TILES}.length === 7", "Escape keeps it")
    page.press("Delete")
    page.tab_to("sure-yes")
    page.press("Enter")
    page.until(f"{TILES}.length === 6 && {at} === 1", "it is deleted, the focus on its neighbour")
    check(len(stand_in.jobs) == 6, "on the server too")
    return page


def a_png_that_is_dropped_fills_the_form(browser, stand_in, url):
    folder = tempfile.mkdtemp()
    for name, data in [("told.png", png(32, 32, 1, "a lost boat\nSteps: 7, Sampler: Euler, Seed: 18446744073709551615, Size: 48x96")),
                       ("silent.png", png(32, 32, 1)), ("none.png", b"GIF89a")]:
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
    page = opened(browser, url)
    page.drop([os.path.join(folder, "told.png")])
    page.until("document.getElementById('png').open", "the dialog is there")
    page.press("Enter")
    wanted = {"prompt": "a lost boat", "width": "48", "height": "96", "steps": "7", "seed": "18446744073709551615"}
    for name, value in wanted.items():
        check(page.js(f"document.getElementById('{name}').value") == value, f"{name} is {value}")
    page.drop([os.path.join(folder, "silent.png")])
    page.until("document.getElementById('png').open && document.getElementById('png-text').textContent.includes('does not say')", "a silent PNG is told so")
    page.press("Escape")
    page.drop([os.path.join(folder, "none.png")])
    page.until("document.getElementById('messages').textContent.includes('none.png: This is no PNG.')", "the server's sentence about another file")
    shutil.rmtree(folder)
    return page


def a_key_is_asked_for_and_kept_for_the_tab(browser, stand_in, url):
    stand_in.key = "right"
    stand_in.add_done({"prompt": "behind the key"}, 5)
    page = Page(browser)
    page.open(url)
    open_ = "document.getElementById('key-dialog').open"
    page.until(open_, "the key is asked for")
    page.press("Escape")
    page.until("document.getElementById('connection-button').textContent === 'Enter the key'", "without it the page says what it needs")
    page.tab_to("connection-button")
    page.press("Enter")
    page.until(open_, "it asks again")
    for wrong, sentence in [("", "Enter the key."), ("wröng", "only ASCII"), ("wrong", "did not accept")]:
        page.replace(wrong) if wrong else None
        page.press("Enter")
        page.until(f"{open_} && document.getElementById('key-problem').textContent.includes({json.dumps(sentence)})", sentence)
    page.replace("right")
    page.press("Enter")
    page.until(f"{SHOWN} === 1", "pictures come with the key")
    page.open(url)
    page.until(f"{SHOWN} === 1", "a reload asks for none")
    return page


def a_phone_of_360_pixels_has_all_of_it(browser, stand_in, url):
    stand_in.models = {"a-model-with-a-name-that-is-long-and-has-no-place-to-break-it": ("dev", 64, 4)}
    stand_in.loras, stand_in.variant = ["a-lora-with-a-name-that-is-long-and-has-no-place-to-break-it", "ink"], "dev"
    for i in range(4):
        stand_in.add_done({"prompt": "x" * 300, "width": 96 - 16 * i}, 50 - i)
    page = opened(browser, url, width=360, height=740, touch=True)
    page.until(f"{SHOWN} > 0", "pictures are shown")
    wide = "document.documentElement.scrollWidth"
    page.js("document.getElementById('settings-text').textContent = '1024 × 1024, 50 steps, guidance 3.5, random seed'")
    check(page.js(wide) == 360, f"no sideways scrolling when folded: {page.js(wide)}")
    check(page.js(f"document.getElementById('generate').getBoundingClientRect().bottom <= innerHeight"), "the button is in sight")
    page.js("document.querySelectorAll('details').forEach(d => d.open = true); document.querySelectorAll('.lora input[type=checkbox], #cfg').forEach(i => i.click())")
    check(page.js(wide) == 360, f"no sideways scrolling with all open: {page.js(wide)}")
    small = page.js("""[...document.querySelectorAll('button, input, select, textarea, summary')].filter(e => e.checkVisibility() && !e.closest('.choice, .switch')
        && (e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)).map(e => e.id || e.outerHTML)""")
    check(small == [], f"targets of at least 24 pixels: {small}")
    page.js("document.querySelectorAll('.lora input[type=checkbox], #cfg').forEach(i => i.click())")
    generate(page, "made on a phone")
    page.until(f"{TILES}.length === 5", "a picture is made")
    page.js(f"{TILES}[0].click()")
    page.until("document.getElementById('viewer-picture').naturalWidth > 0", "it opens")
    box = page.js("(({x, right, bottom}) => [x, right, bottom])(document.getElementById('viewer').getBoundingClientRect())")
    check(box == [0, 360, 740], f"the viewer fills the phone: {box}")
    return page


def a_lost_server_is_found_again(browser, stand_in, url):
    stand_in.step_seconds = 5
    page = opened(browser, url)
    generate(page, "cut short")
    page.until("document.querySelectorAll('#jobs .job').length === 1", "it runs")
    stand_in.stop()
    page.until("!document.getElementById('connection').hidden && document.getElementById('connection-text').textContent.includes('No connection')", "the loss is told")
    generate(page, "lost")
    page.until("document.getElementById('form-problem').textContent.includes('nothing was queued')", "so is what was not sent")
    check(page.js("document.getElementById('prompt').value") == "lost", "the prompt is kept")
    stand_in.loading = True
    stand_in.start()
    page.until("document.getElementById('connection-text').textContent === 'The model is being loaded.'", "a server that loads says so")
    stand_in.loading = False
    page.until(IDLE, "it is found again")
    page.until(f"{TILES}[0]?.textContent.includes('Interrupted')", "what was interrupted is marked")
    return page


def refusals_are_told_where_they_belong(browser, stand_in, url):
    page = opened(browser, url)
    page.press("Enter", CONTROL)
    page.until("document.activeElement.id === 'prompt' && document.getElementById('prompt-problem').textContent !== ''", "no prompt")
    generate(page, "é" * 1001)
    page.until("document.getElementById('prompt-problem').textContent.includes('2002 bytes')", "a long prompt")
    page.tab_to("prompt", backwards=True)
    page.replace("too large")
    page.js("chooseSize('free')")
    page.tab_to("width")
    page.replace("1041")
    page.press("Enter", CONTROL)
    page.until("document.getElementById('size-problem').textContent.includes('multiple of 16')", "no multiple")
    page.tab_to("height")
    check(page.js("document.getElementById('width').value") == "1040", "it settles on one when it is left")
    page.press("Enter", CONTROL)
    page.until("document.activeElement.id === 'width' && document.getElementById('size-problem').textContent.includes('1024 x 64 does')", "the server's sentence, at its field")
    page.replace("64")
    for seed in ("-1", "1.5", "18446744073709551616", "x"):
        page.tab_to("seed", backwards=False)
        page.replace(seed)
        page.press("Enter", CONTROL)
        page.until("document.getElementById('seed-problem').textContent !== ''", "seed " + seed)
    page.replace("7")
    stand_in.full = True
    page.press("Enter", CONTROL)
    page.until("document.getElementById('form-problem').textContent.includes('queue is full')", "a full queue")
    check(len(stand_in.jobs) == 0, "nothing was queued")
    return page


def what_others_do_appears_and_old_pages_are_asked_for(browser, stand_in, url):
    for i in range(60):
        stand_in.add_done({"prompt": f"old {i}"}, 1000 - i)
    page = opened(browser, url)
    page.until(f"{TILES}.length === 50", "a page of the list")
    page.until(f"{SHOWN} > 0", "pictures come")
    loaded, before = 0, -1
    while loaded != before:
        time.sleep(0.7)
        loaded, before = page.js(SHOWN), loaded
    page.tab_to("more-button")
    page.press("Enter")
    page.until(f"{TILES}.length === 60 && document.getElementById('more').hidden", "the rest")
    page.until(f"{TILES}.indexOf(document.activeElement) === 50", "the focus goes on where the new ones begin")
    page.js("scrollTo(0, document.body.scrollHeight)")
    page.until(f"!{TILES}[0].querySelector('img.there') && {TILES}.at(-1).querySelector('img.there')", "those far above are let go")
    stand_in.add_job({"prompt": "from another tab"})
    page.until(f"{TILES}.length === 61", "a picture of another tab")
    stand_in.jobs.remove(stand_in.jobs[-1])
    page.until(f"{TILES}.length === 60", "one that another tab deleted")
    check(0 < loaded < 50, f"pictures far below are not fetched: {loaded}")
    return page


def the_order_is_the_servers_also_where_its_clock_was_put_back(browser, stand_in, url):
    for i in range(60):
        stand_in.add_done({"prompt": f"old {i}"}, 1000 - i)
    stand_in.add_done({"prompt": "newest"}, 0, created=1000)
    page = opened(browser, url)
    first = f"{TILES}[0].textContent.includes('newest')"
    page.until(f"{TILES}.length === 50 && {first}", "the newest is first")
    stand_in.add_done({"prompt": "newer still"}, 0, created=900)
    page.until(f"{TILES}.length === 51 && {TILES}[0].textContent.includes('newer still')", "and one that comes later, too")
    page.tab_to("more-button")
    page.press("Enter")
    page.until(f"{TILES}.length === 62 && document.getElementById('more').hidden", "the rest is asked for behind the last one")
    return page


def a_model_is_chosen_and_what_was_left_alone_follows_it(browser, stand_in, url):
    stand_in.models = {"a dev & more": ("dev", 128, 28), "broken": None, HOSTILE: ("schnell", 96, 2)}
    stand_in.step_seconds = 0.01
    stand_in.add_done({"prompt": "by the other one", "model": "a dev & more", "steps": 9, "width": 128, "height": 128}, 5)
    page = opened(browser, url)
    values = "[$('width').value, $('height').value, $('steps').value, $('model-choice').value, $('guidance-field').hidden]"
    choose = lambda name: page.js(f"$('model-choice').value = {json.dumps(name)}; $('model-choice').dispatchEvent(new Event('change'))")
    check(page.js(values) == ["64", "64", "4", "stand-in", True], f"the server's own at first: {page.js(values)}")
    choose("a dev & more")
    page.until("$('model-name').textContent.includes('a dev & more')", "the other one is shown")
    check(page.js(values) == ["128", "128", "28", "a dev & more", False] and page.js("$('guidance').value") == "3.5", f"its defaults: {page.js(values)}")
    page.js("setSteps(5)")
    choose(HOSTILE)
    page.until("$('width').value === '96'", "a third one's size")
    check(page.js(values)[2] == "5", "what was set stays")
    told = page.js("$('model-choice').value = 'broken'; $('model-choice').dispatchEvent(new Event('change')); submitForm(); $('form-problem').textContent")
    check("still being opened" in told and stand_in.jobs[-1]["request"]["model"] == "a dev & more", f"no job of the old model meanwhile: {told}")
    page.until("$('model-problem').textContent.includes('cannot be opened')", "one that is broken is told")
    check(page.js("$('model-choice').value") == HOSTILE, "the choice stays as it was")
    page.js("void useSettings({prompt: 'of a broken one', model: 'broken'}); 0")
    page.until("document.body.textContent.includes('The model broken cannot be opened: the form is for another one.')", "settings of one that is broken say so")
    check(page.js("[$('prompt').value, $('model-choice').value]") == ["of a broken one", HOSTILE], "and are in the form")
    page.js("modelFacts.get(model).limits.pixels_max = 1; takeInfo(server); 0")
    check(page.js("info.limits.pixels_max === server.limits.pixels_max"), "the server's limit of pixels is its newest")
    generate(page, "made by it")
    page.until(f"{SHOWN} === 2", "a picture")
    check(stand_in.jobs[-1]["request"]["model"] == HOSTILE, "the request names it")
    check(stand_in.sizes == ["small"] * 2, f"tiles are small pictures: {stand_in.sizes}")
    page.js(f"{TILES}[1].click(); document.getElementById('viewer-use').click()")
    page.until("$('steps').value === '9' && $('model-choice').value === 'a dev & more'", "settings of a picture come with its model")
    page.open(url)
    page.until(f"{IDLE} && $('model-choice').value === 'a dev & more' && $('steps').value === '9'", "a reload keeps it")
    stand_in.open_seconds = 1
    page.open(url)
    page.until("$('model-choice').disabled", "it is opened again")
    page.js("$('prompt').value = 'typed meanwhile'; $('count').value = '3'; formChanged(); 0")
    page.until("!$('model-choice').disabled && $('model-choice').value === 'a dev & more'", "it is open")
    check(page.js("[$('prompt').value, $('count').value, $('steps').value]") == ["typed meanwhile", "3", "9"], "what was typed meanwhile stays")
    stand_in.models["a dev & more"] = ("dev", 64, 12)
    page.js("disconnected(new Trouble('offline', '')); 0")
    page.until("info.defaults.steps === 12 && info.model.name === 'a dev & more'", "behind a lost connection it is asked for again")
    stand_in.models = {}
    page.js("infoAt = -1e9; poll()")
    page.until("$('model-field').hidden", "with one model there is no choice")
    page.js(f"{TILES}[0].click()")
    page.until("document.getElementById('viewer-picture').naturalWidth > 0", "it opens")
    check(stand_in.sizes[-1] is None, "an opened picture is whole")
    return page


def loras_are_offered_that_fit_the_chosen_model(browser, stand_in, url):
    why = "soft.safetensors: it is for a layer of another shape; the LoRA was made for another model"
    stand_in.models, stand_in.loras = {"other": ("schnell", 64, 4)}, ["ink", "soft"]
    stand_in.refused = {("other", "soft"): why, ("stand-in", "ink"): HOSTILE}
    page = opened(browser, url)
    rows = "[...document.querySelectorAll('.lora')].map(r => [r.querySelector('input').disabled, r.querySelector('.why').hidden ? '' : r.querySelector('.why').textContent])"
    check(page.js(rows) == [[True, HOSTILE], [False, ""]], f"of the server's own model: {page.js(rows)}")
    page.js("document.querySelectorAll('.lora input[type=checkbox]').forEach(i => i.click())")
    check([l["name"] for l in page.js("readLoras()")] == ["soft"], "who is refused stays off")
    page.js("$('model-choice').value = 'other'; $('model-choice').dispatchEvent(new Event('change'))")
    page.until(f"JSON.stringify({rows}) === {json.dumps(json.dumps([[False, ''], [True, why]], separators=(',', ':')))}", "of another model")
    check(page.js("readLoras()") == [] and page.js("document.querySelectorAll('.lora input')[3].getAttribute('aria-describedby') === document.querySelectorAll('.lora .why')[1].id"), "what was on goes off, and says why")
    missing = page.js("setLoras([{name: 'ink', scale: 0.5}, {name: 'soft', scale: 1}, {name: 'gone', scale: 1}])")
    check(missing == ["soft", "gone"] and page.js("readLoras()") == [{"name": "ink", "scale": 0.5}], f"settings of a picture: {missing}")
    stand_in.loras, stand_in.unexamined = ["ink", "new", "soft"], {"new"}
    page.js("infoAt = -1e9; poll(); 0")
    page.until("document.querySelectorAll('.lora').length === 3", "a new one is asked for, for the chosen model")
    check([r[0] for r in page.js(rows)] == [False, False, True], f"and told by it: {page.js(rows)}")
    check(page.js(rows)[1][1] == "The server has yet to look at this file.", f"what is not known yet: {page.js(rows)}")
    page.js("document.querySelectorAll('.lora input[type=checkbox]')[1].click(); document.querySelectorAll('.lora input[type=number]')[1].focus()")
    stand_in.unexamined, stand_in.refused = set(), {("other", "soft"): "another reason"}
    page.until(f"({rows})[1][1] === ''", "it is asked for again")
    check(page.js(rows)[2] == [True, "another reason"] and page.js("document.activeElement === document.querySelectorAll('.lora input[type=number]')[1]"), "the rows stay as they are")
    check(page.js("readLoras().map(l => l.name)") == ["ink", "new"], f"and what was set: {page.js('readLoras()')}")
    stand_in.loras, stand_in.unexamined = ["ink", "late", "new", "soft"], {"late"}
    page.js("infoAt = -1e9; poll(); 0")
    page.until("document.querySelectorAll('.lora').length === 4", "one that comes while others are on")
    page.js("document.querySelectorAll('.lora input[type=checkbox]')[1].click()")
    kept = "JSON.parse(sessionStorage.getItem('flux1.form')).lora.map(l => l.name)"
    check(page.js(kept) == ["ink", "late", "new"], f"what the server has yet to look at may be on: {page.js(kept)}")
    stand_in.unexamined, stand_in.refused = set(), {("other", "late"): why}
    page.until(f"({rows})[1][1] === {json.dumps(why)}", "the server's refusal is told")
    check(page.js(rows)[1][0] and page.js("readLoras().map(l => l.name)") == ["ink", "new"], f"it goes off: {page.js('readLoras()')}")
    check(page.js("[...document.querySelectorAll('.lora')].map(r => r.querySelector('input[type=range]').hidden)") == [False, True, False, True], "with its slider")
    check(page.js(kept) == ["ink", "new"], f"and a reload of the page does not bring it back: {page.js(kept)}")
    return page


def no_more_pixels_than_the_server_draws(browser, stand_in, url):
    stand_in.pixels_max = 3000
    page = opened(browser, url)
    sizes = page.js("[...document.querySelectorAll('input[name=size]')].map(i => i.value).filter(v => v !== 'free').map(v => v.split('x').map(Number))")
    check(len(sizes) >= 3 and all(w * h <= 3000 and w % 16 == h % 16 == 0 for w, h in sizes), f"sizes to choose from: {sizes}")
    page.js("chooseSize('free'); $('width').value = $('height').value = 64")
    generate(page, "too large")
    page.until("document.getElementById('size-problem').textContent.includes('4096; this server draws 3000')", "a size beyond it")
    check(stand_in.jobs == [], "nothing was queued")
    return page


def settings_of_a_picture_come_back_whole(browser, stand_in, url):
    stand_in.variant, stand_in.loras, stand_in.step_seconds = "dev", ["ink", "soft"], 0.01
    asked = {"prompt": "all of it", "negative_prompt": "rain", "true_cfg_scale": 2.5, "width": 80, "height": 112, "steps": 9, "guidance": 5.5, "seed": "12345678901234567890",
             "count": 2, "step_cache": "fb:0.1", "max_sequence_length": 128, "lora": [{"name": "soft", "scale": 0.35}], "format": "webp", "quality": 77}
    stand_in.add_done(asked, 5)
    page = opened(browser, url)
    page.until(f"{SHOWN} === 1", "it is there")
    page.js(f"{TILES}[0].click(); document.getElementById('viewer-use').click()")
    page.press("Enter", CONTROL)
    page.until("document.querySelectorAll('#jobs .job').length + document.querySelectorAll('#gallery .tile').length === 2", "it is queued")
    sent = stand_in.jobs[-1]["request"]
    check({k: sent.get(k) for k in asked} == {**asked, "count": 1}, f"what is sent: {sent}")
    return page


def strings_of_the_server_stay_text(browser, stand_in, url):
    stand_in.loras = [HOSTILE]
    job = stand_in.add_done({"prompt": HOSTILE, "negative_prompt": HOSTILE, "lora": [{"name": HOSTILE, "scale": 1}]}, 5)
    job["notes"] = [HOSTILE]
    failed = stand_in.add_job({"prompt": HOSTILE}, "failed", time.time() - 3)
    failed["error"] = {"message": HOSTILE}
    page = opened(browser, url)
    page.until(f"{SHOWN} === 1", "it is there")
    for i in (0, 1):
        page.js(f"{TILES}[{i}].click()")
        page.until("document.getElementById('viewer').open", "it opens")
        check(HOSTILE in page.js("document.getElementById('viewer').textContent"), "as it is")
        page.press("Escape")
        page.until("!document.getElementById('viewer').open", "it closes")
    check(page.js("document.querySelectorAll('img[src=x], body script ~ script, #gallery script').length") == 0 and page.js("document.title") == "flux1", "nothing came alive")
    return page


def colours_have_contrast_and_controls_have_names(browser, stand_in, url):
    stand_in.variant, stand_in.loras, stand_in.models = "dev", ["ink"], {"other": ("dev", 64, 4)}
    stand_in.add_done({"prompt": "p"}, 5)
    page = opened(browser, url)
    page.until(f"{SHOWN} === 1", "it is there")
    texts = [("text", g) for g in ("ground", "surface", "sunken", "accent-soft")] + [("muted", g) for g in ("ground", "surface", "sunken")]
    texts += [("danger", "surface"), ("danger", "danger-soft"), ("on-accent", "accent"), ("on-accent", "accent-strong"), ("accent-strong", "accent-soft"), ("ground", "text")]
    edges = [("edge", "surface"), ("accent", "surface"), ("accent", "ground"), ("edge", "sunken")]
    for theme in ("light", "dark"):
        page.js(f"setTheme('{theme}')")
        for names, least in ((texts, 4.5), (edges, 3.0)):
            for front, back in names:
                ratio = contrast(page, front, back)
                check(ratio >= least, f"{theme}: {front} on {back} has {ratio:.2f}, at least {least} is needed")
    page.js("""document.querySelectorAll('details').forEach(d => d.open = true); chooseSize('free'); chooseFormat('webp');
        document.querySelectorAll('.lora input[type=checkbox], #cfg').forEach(i => i.click())""")
    for opener in ("0", f"{TILES}[0].click()", "$('viewer-delete').click()", "void askForKey(true)"):
        page.js(opener)
        check(nameless(page) == [], f"without a name, after {opener}: {nameless(page)}")
    check(page.js("(() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return new Set(ids).size === ids.length; })()"), "ids are unique")
    lost = page.js("""[...document.querySelectorAll('[aria-describedby], [aria-labelledby], label[for]')].flatMap(e =>
        [e.getAttribute('aria-describedby'), e.getAttribute('aria-labelledby'), e.getAttribute('for')].filter(Boolean).join(' ').split(' ')).filter(id => !document.getElementById(id))""")
    check(lost == [], f"labels point at nothing: {lost}")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    check(page.js("getComputedStyle(document.querySelector('.button')).transitionProperty") == "none", "no motion where none is wanted")
    return page


def nameless(page):
    """Roles of the controls that a screen reader would find without a name."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "spinbutton", "slider", "switch", "checkbox", "radio", "searchbox", "link", "progressbar", "dialog", "combobox"}
    return [n["role"]["value"] for n in nodes if not n.get("ignored") and n["role"]["value"] in roles and not n.get("name", {}).get("value")]


def contrast(page, front, back):
    """WCAG 2's ratio of two of the page's colours."""
    def light(name):
        text = page.js(f"(() => {{ const e = document.createElement('i'); e.style.color = 'var(--{name})'; document.body.append(e); const c = getComputedStyle(e).color; e.remove(); return c; }})()")
        parts = [int(p) / 255 for p in text[text.index("(") + 1:-1].split(",")[:3]]
        red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    one, two = sorted((light(front), light(back)))
    return (two + 0.05) / (one + 0.05)


class Program:
    """flux1 serve with a model, a folder for its jobs and a key."""

    def __init__(self, program, model):
        self.program, self.model, self.folder, self.port = program, model, tempfile.mkdtemp(prefix="flux1-page-"), "0"

    def start(self):
        errors = open(os.path.join(self.folder, "stderr"), "w+")
        self.process = subprocess.Popen([self.program, "serve", "--model", self.model, "--threads", "2", "--port", self.port, "--api-key", "right",
                                         "--jobs", os.path.join(self.folder, "jobs")], stderr=errors)
        for _ in range(600):
            errors.seek(0)
            said = errors.read()
            found = re.search(r"ready: http://127.0.0.1:(\d+)", said)
            if found:
                self.port = found[1]
                return f"http://127.0.0.1:{self.port}/"
            check(self.process.poll() is None, "flux1 serve ended: " + said)
            time.sleep(0.1)
        raise AssertionError("flux1 serve is not ready: " + said)

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(60)

    def jobs(self):
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/jobs?limit=100", headers={"Authorization": "Bearer right"})
        return json.load(urllib.request.urlopen(asked))["jobs"]

    def picture(self, job):
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{job['pictures'][0]['url']}", headers={"Authorization": "Bearer right"})
        return urllib.request.urlopen(asked).read()


def the_program_makes_repeats_cancels_and_outlives_a_kill(browser, program, url):
    page = Page(browser, width=360, height=740, touch=True)
    page.open(url)
    page.until("document.getElementById('key-dialog').open", "the key is asked for")
    page.replace("right")
    page.press("Enter")
    page.until(IDLE, "the page has reached the server")
    generate(page, "a red fox in the snow")
    page.until(f"{SHOWN} === 1", "a picture", 120)
    for i, button in enumerate(("viewer-again", "viewer-vary")):
        page.js(f"{TILES}.at(-1).focus()")
        page.press("Enter")
        page.until("document.getElementById('viewer-picture').naturalWidth > 0", "it is open")
        page.tab_to(button)
        page.press("Enter")
        page.until(f"{SHOWN} === {2 + i}", button, 120)
    varied, again, first = [program.picture(j) for j in program.jobs()]
    check(first == again and first != varied, "made again: the same bytes; with another seed: others")
    png_file = os.path.join(program.folder, "dropped.png")
    with open(png_file, "wb") as out:
        out.write(first)
    page.js("document.getElementById('prompt').value = ''")
    page.drop([png_file])
    page.until("document.getElementById('png').open", "a PNG is read")
    page.press("Enter")
    check(page.js("[$('prompt').value, $('seed').value]") == ["a red fox in the snow", program.jobs()[-1]["request"]["seed"]], "its prompt and its seed are in the form")
    page.js("$('count').value = 50")
    generate(page, "two cats")
    page.until("document.querySelector('#jobs .job:not(.waiting) button')", "it runs", 60)
    page.js("document.getElementById('jobs-heading').focus()")
    page.press("Tab")
    page.press("Enter")
    page.until("document.getElementById('jobs-section').hidden", "it is cancelled", 60)
    check(program.jobs()[0]["state"] == "cancelled", "the server knows it")
    generate(page, "a castle")
    page.until("document.querySelector('#jobs .job:not(.waiting)')", "another runs", 60)
    program.end(signal.SIGKILL)
    page.until("document.getElementById('connection-text').textContent.includes('No connection')", "the loss is told")
    program.start()
    page.until(f"{IDLE} && {TILES}.some(t => t.getAttribute('aria-label').includes('Interrupted') || t.getAttribute('aria-label').includes('a castle'))", "it is back, and what ran is marked", 60)
    check("interrupted" in [j["state"] for j in program.jobs()], "the server has marked it")
    check(program.picture(program.jobs()[-1]) == first, "pictures are kept")
    return page


STAND_IN_RULES = [globals()[name] for name in """
    a_picture_is_made_watched_and_made_again_by_keyboard a_job_is_cancelled_by_keyboard the_gallery_and_its_dialogs_go_by_arrows_and_escape
    a_png_that_is_dropped_fills_the_form a_key_is_asked_for_and_kept_for_the_tab a_phone_of_360_pixels_has_all_of_it a_lost_server_is_found_again
    a_model_is_chosen_and_what_was_left_alone_follows_it loras_are_offered_that_fit_the_chosen_model no_more_pixels_than_the_server_draws refusals_are_told_where_they_belong what_others_do_appears_and_old_pages_are_asked_for the_order_is_the_servers_also_where_its_clock_was_put_back settings_of_a_picture_come_back_whole
    strings_of_the_server_stay_text colours_have_contrast_and_controls_have_names""".split()]


def try_rule(browser, rule, server, end):
    began, trouble = time.monotonic(), ""
    try:
        page = rule(browser, server, server.start())
        said = page.complaints()
        check(said == [], "; ".join(said))
        page.close()
    except (AssertionError, RuntimeError, OSError) as failure:
        trouble = str(failure)
    finally:
        end()
    print(f"{'FAILED' if trouble else 'ok    '} {time.monotonic() - began:5.1f} s  {rule.__name__}{': ' + trouble if trouble else ''}", flush=True)
    return not trouble


def try_stand_in(browser, rule, page_file):
    stand_in = StandIn(page_file)
    return try_rule(browser, rule, stand_in, lambda: stand_in.running and stand_in.stop())


def try_program(browser, rule, program, model):
    server = Program(program, model)
    try:
        return try_rule(browser, rule, server, lambda: server.end(signal.SIGTERM))
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("page")
    parser.add_argument("program", nargs="*")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        print("no Chromium here: the page is not tested (Debian's package: chromium)")
        return 77
    browser = Browser(chromium)
    try:
        good = [try_stand_in(browser, rule, options.page) for rule in STAND_IN_RULES if options.only in rule.__name__]
        rule = the_program_makes_repeats_cancels_and_outlives_a_kill
        if options.program and options.only in rule.__name__:
            good.append(try_program(browser, rule, *options.program))
    finally:
        browser.close()
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
