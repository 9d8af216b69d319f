"""The parts of tools/ttnn/flux1_ttnn.py that need no library: reading recordings, and what the library does not check without a card."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
WORKER = os.path.join(SOURCE, "tools/ttnn/flux1_ttnn.py")
sys.path.insert(0, os.path.dirname(WORKER))
sys.dont_write_bytecode = True
os.environ["FLUX1_TTNN_BLOCKINGS"] = "/nowhere/table.json"  # no table of this machine's
import flux1_ttnn as worker

HEAD = """flux1-recording 1
# a comment

model variant=schnell
picture width=64 height=48 steps=3 clip_tokens=77 t5_tokens=256
mesh shape=2x4 sp=2@0 tp=4@1
"""
BODY = """stage dit.open
create act=a0 role=residual batch=1 text=32 image=sp(64,64) cols=96
@0,4 bias w=w3 rows=96
stage dit.step
end block=b1
end
this is behind the end
"""


def recording(text):
    return worker.Recording(text.splitlines())


class Reading(unittest.TestCase):
    def test_head_and_stages(self):
        r = recording(HEAD + BODY)
        self.assertEqual(r.mesh, worker.Mesh((2, 4), 2, 0, 4, 1))
        self.assertEqual(r.picture["height"], 48)
        self.assertEqual(list(r.stages), ["dit.open", "dit.step"])
        self.assertEqual(r.stages["dit.open"][1], worker.Line(9, (0, 4), "bias", {"w": "w3", "rows": "96"}))
        self.assertEqual(r.stages["dit.step"][0].call, "end")

    def test_what_is_no_recording(self):
        for text, words in ((HEAD + BODY.split("\nend\n")[0], "is cut"), (HEAD.replace("recording 1", "recording 2") + BODY, "version 1"),
                            (BODY, "version 1"), (HEAD.replace("tp=4@1", "tp=4") + BODY, "mesh should be"), (HEAD + BODY.replace("batch=1", "batch"), "line 8: \"batch\""),
                            (HEAD + BODY.replace("batch=1", "cols=1"), "each key once"), (HEAD.replace("width=64", "width=x") + BODY, "picture should be"),
                            (HEAD + BODY.replace("@0,4", "@x"), "line 9: \"@x\""), (HEAD.replace("sp=2@0", "sp=3@0") + BODY, "cannot be sp 3 on axis 0"),
                            (HEAD.replace("tp=4@1", "tp=4@2") + BODY, "tp 4 on axis 2"), (HEAD.replace("tp=4@1", "tp=2@0") + BODY, "tp 2 on axis 0"),
                            (HEAD.replace("2x4", "0x4") + BODY, "mesh of 0x4")):
            with self.assertRaisesRegex(worker.Refused, words):
                recording(text)

    def test_numbers_of_ranks(self):
        mesh = recording(HEAD + BODY).mesh
        line = worker.Line(7, None, "create", {})
        self.assertEqual(worker.values_of("sp(0,6)", mesh), [0, 0, 0, 0, 6, 6, 6, 6])
        self.assertEqual(worker.values_of("tp(1,2,3,4)", mesh), [1, 2, 3, 4, 1, 2, 3, 4])
        self.assertEqual(worker.values_of("-3", mesh), [-3] * 8)
        self.assertEqual(worker.same("all(5,5,5,5,5,5,5,5)", mesh, line), 5)
        with self.assertRaisesRegex(worker.Refused, r"line 7: create differs between ranks \(tp\(1,2,3,4\)\)"):
            worker.same("tp(1,2,3,4)", mesh, line)
        prompt, heads = r"choose a prompt length that 8 devices share evenly \(--max-sequence-length\)", r"choose a mesh whose devices share the heads evenly \(--mesh, such as 1x1\)"
        fewer = r"choose a mesh of fewer devices \(--mesh, such as 1x1\)"
        for call, key, filled, words in (("create", "text", False, prompt), ("create", "cols", False, heads), ("attention", "heads", False, heads), ("weight", "rows", False, heads),
                                         ("weight", "rows", True, heads), ("attention", "heads", True, heads), ("create", "text", True, fewer)):
            with self.assertRaisesRegex(worker.Refused, f"line 7: {call} differs .*; {words}$"):
                worker.same("tp(1,2,3,4)", mesh._replace(filled=filled), worker.Line(7, None, call, {key: "tp(1,2,3,4)"}))
        for text in ("sp(3)", "sp(1,2,3)", "tp(1,2)", "all(1,2)", "1,2", "sp(1,2", "7)", "x", "", "sp(--,1)", "sp()", "dp(1,2)"):
            with self.assertRaisesRegex(ValueError, "should be a number, or sp"):
                worker.values_of(text, mesh)

    def test_operands(self):
        mesh = recording(HEAD + BODY).mesh
        line = worker.Line(7, None, "add", {})
        self.assertEqual(worker.operand("a12", mesh, line), worker.Operand(12, None, None, None))
        self.assertEqual(worker.operand("a3.image[8+4]:32+16", mesh, line), worker.Operand(3, "image", (8, 4), (32, 16)))
        self.assertIsNone(worker.operand("a3?0", mesh, line))
        self.assertEqual(worker.operand("a3?sp(1,1)", mesh, line).act, 3)
        for text in ("w3", "a3.prompt", "a", "a3:1"):
            with self.assertRaisesRegex(worker.Refused, "line 7"):
                worker.operand(text, mesh, line)


class Assertions(unittest.TestCase):
    """The two planted mistakes that mock mode accepts."""

    def test_buffers_of_a_reduce_scatter(self):
        self.assertEqual(worker.scatter_shapes([1, 1, 2048, 3072], 2, 4, "Linear"), ([2, 1, 2048, 3072], [1, 1, 512, 3072]))
        self.assertEqual(worker.scatter_shapes([1, 1, 2048, 3072], 3, 4, "Ring"), ([1, 1, 2048, 3072], [1, 1, 2048, 768]))
        worker.check_scatter([1, 1, 2048, 3072], 2, 4, "Linear", [2, 1, 2048, 3072], [1, 1, 512, 3072])
        for intermediate, output, topology, words in (([1, 1, 2048, 3072], [1, 1, 512, 3072], "Linear", "intermediate buffer"),
                                                      ([2, 1, 2048, 3072], [1, 1, 512, 3072], "Ring", "intermediate buffer"),
                                                      ([2, 1, 2048, 3072], [1, 1, 1024, 3072], "Linear", "the output")):
            with self.assertRaisesRegex(worker.Refused, words):
                worker.check_scatter([1, 1, 2048, 3072], 2, 4, topology, intermediate, output)
        with self.assertRaisesRegex(worker.Refused, "whole tiles"):
            worker.scatter_shapes([1, 1, 64, 3072], 2, 4, "Linear")

    def test_buffers_of_a_gather(self):
        one = lambda shape, dtype="bf16", layout="rows": unittest.mock.Mock(shape=shape, dtype=dtype, layout=layout)
        worker.check_gather(one([1, 1, 128, 32]), 2, 4, one([1, 1, 512, 32]))
        for buffer in (one([1, 1, 256, 32]), one([1, 1, 128, 128]), one([1, 1, 512, 32], layout="tiles"), one([1, 1, 512, 32], "f32")):
            with self.assertRaisesRegex(worker.Refused, r"buffer of a gather by 4 devices .* should be \[1, 1, 512, 32\]"):
                worker.check_gather(one([1, 1, 128, 32]), 2, 4, buffer)

    def test_filters(self):
        worker.check_filter([3, 16, 3, 3], 3, 16)
        for shape in ([3, 32, 3, 3], [16, 3, 3, 3], [3, 16, 1, 1], [3, 16, 9]):
            with self.assertRaisesRegex(worker.Refused, r"of 16 channels to 3 are .* should be \[3, 16, 3, 3\]"):
                worker.check_filter(shape, 3, 16)

    def test_chunks_of_attention(self):
        worker.check_chunks(128, 512, 128)
        for q, k, words in ((128, 4096, "take"), (128, 500, "multiples of 32"), (0, 512, "multiples of 32"), (100, 512, "multiples of 32")):
            with self.assertRaisesRegex(worker.Refused, words):
                worker.check_chunks(q, k, 128)
        self.assertEqual([worker.chunk_of(n, 512) for n in (1, 32, 96, 513, 4352)], [32, 32, 64, 512, 512])


class Blocks(unittest.TestCase):
    """Blockings of products: the search, and the table."""

    def setUp(self):
        room = tempfile.TemporaryDirectory()
        self.addCleanup(room.cleanup)
        self.path = os.path.join(room.name, "folder", "table.json")
        self.library = unittest.mock.MagicMock()
        self.library.bfloat16 = "DataType.BFLOAT16"
        self.device = unittest.mock.MagicMock()
        self.device.compute_with_storage_grid_size.return_value = unittest.mock.Mock(x=8, y=7)
        self.device.arch.return_value = "Arch.WORMHOLE_B0"
        self.x = unittest.mock.Mock(shape=[1, 1, 512, 3072], dtype=self.library.bfloat16)
        self.w = {"matrix": unittest.mock.Mock(shape=[3072, 9216], dtype="DataType.BFLOAT8_B"), "row": None, "rows": 9216}
        patch = unittest.mock.patch.dict(os.environ, {"FLUX1_TTNN_BLOCKINGS": self.path})
        patch.start()
        self.addCleanup(patch.stop)
        os.environ.pop("TT_METAL_MOCK_CLUSTER_DESC_PATH", None)

    WHICH = "wormhole_b0 8x7 bfloat8_b 512x3072x9216"

    def mapper(self, kind=worker.Mapper):
        made = kind(recording(HEAD + BODY), self.library, self.device, 1, None, unittest.mock.MagicMock())
        made.weights = {"w1": self.w}
        return made

    def asked(self):
        """The blocking of the last product."""
        k = self.library.MinimalMatmulConfig.call_args.kwargs
        return k["M_block_size"], k["K_block_size"], k["N_block_size"], k["subblock_h"], k["subblock_w"]

    def test_what_a_blocking_is(self):
        for numbers, good in (((8, 8, 8, 2, 2), True), ((2, 16, 4, 1, 4), True), ((8, 8, 8, 2, 4), False), ((8, 8, 6, 1, 4), False), ((0, 8, 8, 1, 1), False),
                              ((32, 8, 8, 1, 1), False), ((8, 8, 8, 2), False), ((8, 8, True, 1, 1), False), ((8.0, 8, 8, 1, 1), False)):
            self.assertEqual(worker.is_blocking(numbers), good, numbers)
        for b in worker.next_to(worker.Blocking(8, 8, 8, 2, 2)):
            self.assertTrue(worker.is_blocking(b), b)
            self.assertNotEqual(b, (8, 8, 8, 2, 2))

    def test_the_search_ends_at_the_fastest(self):
        goal = worker.Blocking(4, 16, 16, 1, 4)
        far = lambda b: 1 + sum(abs(x - y) for x, y in zip(b, goal))
        best, tried = worker.fastest(worker.usual_blocking(512, 9216), far)
        self.assertEqual(best, goal)
        self.assertEqual(len(tried), len(set(tried)))
        refusing = lambda b: None if b.n > 8 or b.k > 8 else far(b)
        self.assertEqual(worker.fastest(worker.usual_blocking(512, 9216), refusing)[0], (4, 8, 8, 1, 4))
        self.assertEqual(worker.fastest(worker.usual_blocking(512, 9216), lambda b: 1 if b.k == 8 else 0.995)[0], (8, 8, 8, 2, 2))  # noise
        self.assertIsNone(worker.fastest(worker.usual_blocking(512, 9216), lambda b: None)[0])

    def test_a_product_takes_what_was_found(self):
        self.mapper().product(self.x, "w1")
        self.assertEqual(self.asked(), (8, 8, 8, 2, 2))
        worker.Blockings(self.path).keep(self.WHICH, worker.Blocking(4, 2, 16, 1, 4))
        worker.Blockings(self.path).keep("another", worker.Blocking(2, 2, 2, 1, 1))
        self.mapper().product(self.x, "w1")
        self.assertEqual(self.asked(), (4, 2, 16, 1, 4))
        self.w["matrix"].shape = [3072, 9248]
        self.mapper().product(self.x, "w1")
        self.assertEqual(self.asked(), (8, 8, 8, 2, 2))
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["table.json", "table.json.lock"])

    def test_searches_lose_nothing_of_each_other(self):
        blocking = worker.Blocking(4, 2, 16, 1, 4)
        one, other = worker.Blockings(self.path), worker.Blockings(self.path)
        one.keep("first", blocking), other.keep("second", blocking), one.keep("third", blocking)
        self.assertEqual(worker.Blockings(self.path).found, dict.fromkeys(("first", "second", "third"), blocking))
        with unittest.mock.patch.object(worker, "version_of_library", lambda: "another"):
            self.assertEqual(worker.Blockings(self.path).found, {})
            worker.Blockings(self.path).keep("first", worker.Blocking(2, 2, 2, 1, 1))
        self.assertEqual(worker.Blockings(self.path).found, dict.fromkeys(("first", "second", "third"), blocking))

    def test_searches_write_one_by_one(self):
        """A search that is writing is waited for, and what it writes is kept."""
        blocking = worker.Blocking(4, 2, 16, 1, 4)
        os.makedirs(os.path.dirname(self.path))
        locked, table = worker.fcntl.flock, json.dumps({worker.version_of_library(): {"other": blocking}})
        def wait(lock, how):
            locked(lock, how | worker.fcntl.LOCK_NB)
            with open(f"{self.path}.lock") as second, self.assertRaises(BlockingIOError):
                locked(second, worker.fcntl.LOCK_EX | worker.fcntl.LOCK_NB)
            with open(self.path, "w") as f:
                f.write(table)
        mine = worker.Blockings(self.path)
        with unittest.mock.patch.object(worker.fcntl, "flock", wait):
            mine.keep("mine", blocking)
        self.assertEqual(worker.Blockings(self.path).found, {"mine": blocking, "other": blocking})

    def test_tables_that_are_not_taken(self):
        os.makedirs(os.path.dirname(self.path))
        mine = worker.version_of_library()
        good = {mine: {self.WHICH: [4, 2, 16, 1, 4]}}
        for content, found in ((good, 1), ({"0.1": good[mine]}, 0), ({mine: {}}, 0), ({}, 0), ({mine: {self.WHICH: [4, 2, 16, 3, 4]}}, None), ({mine: {self.WHICH: 4}}, None),
                               ({mine: []}, None), (good | {"0.1": 1}, None), ([], None), ({"ttnn": "1"}, None), ("", None)):
            with open(self.path, "w") as f:
                f.write(content if content == "" else json.dumps(content))
            if found is None:
                with self.assertRaisesRegex(worker.Refused, "table.json is no table of blockings: delete it"):
                    worker.Blockings(self.path)
            else:
                self.assertEqual(len(worker.Blockings(self.path).found), found)

    def test_a_search_writes_the_table(self):
        def product(config, **_):
            if self.asked()[1] > 8:
                raise RuntimeError("beyond max L1 size")
        self.library.experimental.minimal_matmul.side_effect = product
        clock = lambda: clock.now
        clock.now = 0.0
        def wait(_):
            m, k, n, tall, wide = self.asked()
            clock.now += 1 if (m, k, n, tall, wide) == (4, 8, 8, 2, 2) else 2
        self.library.synchronize_device.side_effect = wait
        with unittest.mock.patch.object(worker.time, "perf_counter", clock), unittest.mock.patch("builtins.print") as said:
            self.mapper(worker.Searching).product(self.x, "w1")
        self.assertEqual(self.asked(), (4, 8, 8, 2, 2))
        self.assertEqual(worker.Blockings(self.path).found, {self.WHICH: (4, 8, 8, 2, 2)})
        self.assertIn(f"{self.WHICH}: (4, 8, 8, 2, 2)", said.call_args.args[0])
        calls = self.library.experimental.minimal_matmul.call_count
        self.mapper(worker.Searching).product(self.x, "w1")  # what is in the table is not looked for again
        self.assertEqual(self.library.experimental.minimal_matmul.call_count, calls + 1)

    def test_in_mock_mode_nothing_is_written(self):
        with unittest.mock.patch.dict(os.environ, {"TT_METAL_MOCK_CLUSTER_DESC_PATH": "x"}), unittest.mock.patch("builtins.print"):
            self.mapper(worker.Searching).product(self.x, "w1")
        self.assertFalse(os.path.exists(self.path))


class Calls(unittest.TestCase):
    """On a library that takes everything."""

    def setUp(self):
        self.library = unittest.mock.MagicMock()
        self.library.DataType = self.library.Layout = type("none", (), {})  # no key of a buffer is one
        self.library.empty.side_effect = lambda *_, **__: object()
        self.library.create_global_semaphore.side_effect = lambda *_: object()
        self.mapper = worker.Mapper(recording(HEAD + BODY), self.library, unittest.mock.MagicMock(), 1, None, unittest.mock.MagicMock())

    def refused(self, call, words):
        with self.assertRaisesRegex(worker.Refused, words):
            self.mapper.run("dit.open", recording(HEAD + "stage dit.open\n" + call + "\nend\n").stages["dit.open"])

    def test_what_a_line_lacks_is_told(self):
        for call, words in (("create role=residual batch=1", "line 8: create: 'act' is missing"), ("create act=a0 role=residual batch=1 text=sp(3)", "line 8: .*should be a number"),
                            ("create act=ax role=residual batch=1", "line 8: create: .*'x'"), ("release mark=m1", "'m1' is missing"), ("bias w=w9", "'w9' is missing"),
                            ("linear in=a0 w=w0 out=a9", "activation a9 is not there"), ("add out=a0", "line 8"), ("ring_begin axis=sp", "line 8: a ring without the cast"),
                            ("ring_begin axis=sp\ncast in=a0 out=a1", "line 8: a ring without attention"),
                            ("upsample in=a0", r"line 8: upsample \(dit.open\) is not executed"), ("run name=x", "is not executed")):
            self.refused(call, words)

    def test_calls_of_some_ranks(self):
        self.refused("@0,1 add x=a0 s=1 y=a1 out=a0", "line 8: add is made by some ranks only")
        for stage, words in (("t5", "choose a prompt length that 8 devices share evenly"), ("dit.open", "choose a mesh of fewer devices")):
            with self.assertRaisesRegex(worker.Refused, words):
                self.mapper.run(stage, recording(HEAD + f"stage {stage}\n@0,1 add x=a0 s=1 y=a1 out=a0\nend\n").stages[stage])
        self.refused("@0 weight w=w1", "choose a mesh whose devices share the heads evenly")
        self.refused("@0 ring_begin axis=sp", "line 8: ring_begin is made by some ranks only")
        self.refused("ring_begin axis=sp\n@0,1 linear in=a0 w=w0 out=a1\ncast in=a0 out=a1", "linear is made by some ranks only")

    def test_what_would_be_another_function(self):
        line = worker.Line(7, None, "activate", {})
        self.assertEqual(self.mapper.activated(5, "none", line), 5)
        self.assertIs(self.mapper.activated(5, "silu", line), self.library.silu.return_value)
        self.assertIs(self.mapper.activated(5, "quick_gelu", line), self.library.multiply.return_value)
        with self.assertRaisesRegex(worker.Refused, "line 7: activate: unknown activation relu"):
            self.mapper.activated(5, "relu", line)
        for key in ("scale", "shift"):
            with self.assertRaisesRegex(worker.Refused, "line 7: a norm with weights of its own"):
                self.mapper.layer_norm(worker.Line(7, None, "layer_norm", {"w": "w1", key: "a1:0+8", "in": "a0", "out": "a2", "eps": "1e-6"}))

    def test_smaller_shares_are_filled(self):
        self.assertEqual([worker.shares(n) for n in ([10] * 7 + [7], [2, 2, 2, 0], [3, 3, 1, 0], [1, 2], [2, 1, 1], [0, 0], [2, 0, 2])], [True] * 3 + [False] * 2 + [True, False])
        lines = recording(HEAD + "stage clip\ncreate act=a0 role=residual batch=1 text=all(10,10,10,10,10,10,10,7) cols=8\n"
                          "create act=a1 role=residual batch=1 text=77 cols=all(6,6,6,6,6,6,0,0)\ncreate act=a2 role=residual batch=1 text=1 cols=8\nend\n").stages["clip"]
        self.mapper.run("clip", lines)
        self.assertEqual([(a.rows[None], a.cols) for a in self.mapper.acts.values()], [(10, 8), (80, 6), (1, 8)])
        with self.assertRaisesRegex(worker.Refused, "line 8: create differs between ranks"):
            self.mapper.run("t5", lines)
        mesh = worker.Mesh((2, 4), 2, 0, 4, 1)
        for text, good in (("all(4,4,4,3,4,4,4,2)", True), ("all(4,4,4,4,4,4,1,0)", True), ("all(4,4,4,4,0,0,0,0)", True), ("sp(15,14)", True), ("tp(4,4,4,3)", True),
                           ("all(4,4,4,3,4,4,4,4)", False), ("all(4,4,4,3,3,3,3,3)", True), ("all(4,4,4,4,3,0,0,0)", True), ("all(3,3,3,3,4,4,4,4)", False), ("all(4,4,3,4,4,4,4,4)", False), ("sp(14,15)", False), ("tp(4,3,4,4)", False)):
            self.assertEqual(worker.fills(text, worker.values_of(text, mesh), mesh), good, text)
        line = worker.Line(7, None, "input", {"first": "all(0,4,8,12,15,18,21,24)"})
        self.assertEqual(worker.firsts(line, mesh, 4), [0, 4, 8, 12, 15, 19, 23, 27])
        self.assertEqual(worker.firsts(line._replace(keys={"first": "sp(0,15)"}), mesh, 15), [0] * 4 + [15] * 4)
        with self.assertRaisesRegex(worker.Refused, "line 7: heads that are not shared evenly by 8 devices; choose a mesh whose devices share the heads evenly"):
            self.mapper.enter("clip")
            self.mapper.weight(worker.Line(7, None, "weight", {"w": "w0", "role": "qkv", "rows": "all(9,9,9,9,9,9,9,3)", "cols": "8"}))

    def plane(self, *lines):
        """The stage vae with planes of 2×4 pixels in a0 and a1 that are there."""
        text = "\n".join([f"create act=a{i} role=plane batch=1 image=8 cols=3 height=2 width=4" for i in (0, 1)] + list(lines))
        self.mapper.enter("vae")
        self.mapper.acts.clear(), self.mapper.halos.clear()
        lines = recording(HEAD + "stage vae\n" + text + "\nend\n").stages["vae"]
        self.mapper.run("vae", lines[:2])
        for i in (0, 1):
            self.mapper.acts[i].pieces = [worker.Piece("image", 0, 3, unittest.mock.Mock(shape=[1, 1, 8, 3]))]
        self.mapper.run("vae", lines[2:])

    def test_rows_of_neighbours(self):
        down, up = "halo_row in=a0 distance=1 wanted=all(1,1,1,1,1,1,1,0) out=a3", "halo_row in=a0 row=1 distance=-1 wanted=all(0,1,1,1,1,1,1,1) out=a2"
        weight = "weight w=w0 block=b0 role=conv rows=3 cols=27 kernel=3\npiece w=w0 tensor=t"
        self.library.conv2d.return_value = (unittest.mock.Mock(), (1, 2))
        self.mapper.source.host_weight.side_effect = lambda w, bias, shape, dtype: unittest.mock.Mock(shape=shape)
        self.library.reshape.return_value = unittest.mock.Mock(shape=[1, 1, 8, 3])
        conv = lambda top, bottom: f"conv in=a0 top=a2?all({top}) bottom=a3?all({bottom}) w=w0 stride=1 out=a1"
        inner, outer = "0,1,1,1,1,1,1,1", "1,1,1,1,1,1,1,0"
        self.mapper.with_neighbours = lambda x, width: unittest.mock.Mock(shape=[1, 1, 16, 3])
        self.plane(down, up, weight, "prepare w=w0", conv(inner, outer))
        self.assertEqual({k: self.library.conv2d.call_args[1][k] for k in ("input_height", "input_width", "padding", "in_channels")},
                         {"input_height": 4, "input_width": 4, "padding": (0, 1), "in_channels": 3})
        for lines, words in (([down.replace("wanted=all(1", "wanted=all(0")], "row 0 of the device at distance 1 is not a plane's border"),
                             ([up.replace("row=1", "row=0")], "row 0 of the device at distance -1"), ([down.replace("=1 w", "=2 w")], "row 0 of the device at distance 2"),
                             ([down, up, weight, conv(outer, outer)], "top is not the neighbours' row of a0"), ([down, weight, conv(inner, outer)], "top is not"),
                             ([down, up, weight, conv(inner, inner)], "bottom is not"), ([down, up, weight, conv(inner, outer).replace("in=a0", "in=a1")], "row of a1"),
                             ([down, up, weight, "prepare w=w0", conv(inner, outer), conv(inner, outer)], "top is not"), ([weight, "conv in=a0 w=w0 stride=1 out=a1"], "top is not"),
                             (["conv in=a0 w=w0 stride=2 out=a1"], "a stride of 2 is not executed yet")):
            with self.assertRaisesRegex(worker.Refused, words):
                self.plane(*lines)

    def test_filters_are_prepared_for_a_size(self):
        take = self.mapper.source.host_weight
        take.side_effect = lambda w, bias, shape, dtype: unittest.mock.Mock(shape=shape)
        w = {"rows": 3, "cols": 27, "bias": True, "pieces": [worker.Line(7, None, "piece", {"tensor": name}) for name in ("weight", "bias")]}
        name, matrix, row = self.mapper.filter(w, 2, 4)
        self.assertEqual((name, matrix.shape, row.shape, take.call_count), (("weight", "bias"), [3, 3, 3, 3], [1, 1, 1, 3], 2))
        for size, count in (((2, 4), 2), ((4, 2), 4)):
            self.mapper.prepared[name] = (2, 4), ("prepared", "too")
            got = self.mapper.filter(w, *size)[1:]
            self.assertEqual((got == ("prepared", "too"), take.call_count), (count == 2, count))

    def test_positions_follow_the_devices(self):
        self.mapper.weights = {"w1": {"rows": 77, "cols": 8, "matrix": None}}
        line = lambda firsts: worker.Line(7, None, "embed", {"positions": "w1", "first": f"all({firsts})"})
        self.library.reshape.return_value.shape = [1, 1, 77, 8]
        for firsts in ("0,10,20,30,40,50,60,70",):
            self.mapper.positions(10, line(firsts))
        with self.assertRaisesRegex(worker.Refused, "line 7: positions from .* do not follow each other by 10"):
            self.mapper.positions(10, line("0,10,20,30,40,50,60,71"))

    def test_exchanges_take_turns(self):
        first, second, third = (self.mapper.turn("gather", 0) for _ in range(3))
        self.assertEqual((first[0], second[0], third), (0, 1, first))
        self.assertEqual(len({id(s) for s in first[1] + second[1] + self.mapper.turn("gather", 1)[1] + self.mapper.turn("scatter", 0)[1]}), 9)

    def test_all_come_to_an_end_before_a_buffer_is_made(self):
        order = []
        self.library.synchronize_device.side_effect = lambda device: order.append("synchronize")
        self.library.empty.side_effect = lambda *_, **__: order.append("empty") or object()
        one = self.mapper.buffer("keys", 0, (1, 2))
        self.assertIs(self.mapper.buffer("keys", 0, (1, 2)), one)
        self.assertIsNot(self.mapper.buffer("keys", 1, (1, 2)), one)
        self.assertEqual(order, ["synchronize", "empty"] * 2)


class Memory(unittest.TestCase):
    def test_the_plan_of_this_recording(self):
        stages = [{"stage": name, "memory_bytes": n} for name, n in (("clip", 8), ("dit opening", 20), ("dit step", 30), ("vae decode", 4))]
        row = {"mesh": "2x4", "sp": "2@0", "tp": "4@1", "width": 64, "height": 48, "stages": stages}
        with tempfile.NamedTemporaryFile("w") as f:
            def planned(*rows):
                f.seek(0), f.truncate(), f.write(json.dumps(rows)), f.flush()
                return worker.planned(f.name, recording(HEAD + BODY))
            self.assertEqual(planned(row | {"tp": "4@0", "stages": []}, row), {"clip": 8, "dit": 30, "vae": 4})
            for other in ({"mesh": "4x2"}, {"sp": "1@0"}, {"tp": "2@1"}, {"width": 48}, {"height": 64}):
                with self.assertRaisesRegex(worker.Refused, "has no plan of "):
                    planned(row | other)
            for other in ({"stages": 1}, {"stages": [{"stage": "clip"}]}, {"stages": [{"stage": "clip", "memory_bytes": "8"}]}):
                with self.assertRaisesRegex(worker.Refused, f"{f.name} is no output of flux1 plan --json"):
                    planned(row | other)
            for text in ("", "{}x", '{"mesh": 1}', "[1]", "[{}]", "7"):
                f.seek(0), f.truncate(), f.write(text), f.flush()
                with self.assertRaisesRegex(worker.Refused, f"{f.name} is no output of flux1 plan --json"):
                    worker.planned(f.name, recording(HEAD + BODY))

    def test_heights_behind_every_call(self):
        library, use = unittest.mock.MagicMock(), []
        library.DataType, library.bfloat16 = str, "bf16"
        library.get_memory_view.side_effect = lambda *_: unittest.mock.Mock(total_bytes_allocated_per_bank=sum(use))
        heights = worker.Heights(library, None)
        watched = worker.Watched(library, heights.watch)
        library.add.side_effect = library.experimental.gather.side_effect = use.append
        self.assertEqual((watched.DataType, watched.bfloat16), (str, "bf16"))
        heights.enter("clip"), watched.add(5), watched.experimental.gather(7)
        use.pop(), watched.add(1), heights.enter("clip"), watched.add(2)
        heights.enter("vae"), watched.add(3)
        self.assertEqual((heights.most["clip"], heights.most["vae"]), (12, 3))


class Profile(unittest.TestCase):
    """What FLUX1_TTNN_PROFILE asks for."""

    def noted(self, path):
        talk = unittest.mock.Mock()
        with unittest.mock.patch.dict(os.environ, {"FLUX1_TTNN_PROFILE": path}):
            notes = worker.Notes(talk)
        for step in range(3):
            notes.begin("dit.step", step, False)
            if notes.calls is not None:
                notes.call("linear", 0)
            notes.end("dit.step")
            self.assertIsNone(notes.calls)
        return talk

    def test_the_second_step_has_its_calls(self):
        with tempfile.TemporaryDirectory() as room:
            path = os.path.join(room, "profile")
            self.noted(path).say.assert_not_called()
            with open(path, encoding="utf-8") as f:
                told = json.load(f)
        self.assertEqual((told["ttnn"], [sorted(step) for step in told["stages"]["dit.step"]]), (worker.version_of_library(), [["seconds"], ["calls", "seconds"], ["seconds"]]))

    def test_a_file_that_cannot_be_written_is_told_once(self):
        self.noted("/nowhere/profile").say.assert_called_once_with("warning", "FLUX1_TTNN_PROFILE: /nowhere/profile cannot be written: No such file or directory; no seconds are noted")


class Library(unittest.TestCase):
    """One that is a file on the path."""

    def checked(self, text, *arguments, source="", plan="", **environment):
        """In a folder with the library, the recording and the plan, which is the one that it runs in."""
        with tempfile.TemporaryDirectory() as room:
            for name, content in (("ttnn.py", source), ("a.rec", text), ("plan.json", plan)):
                with open(os.path.join(room, name), "w") as f:
                    f.write(content)
            return subprocess.run([sys.executable, "-B", WORKER, "check", os.path.join(room, "a.rec"), *arguments], capture_output=True, text=True, timeout=120,
                                  env=os.environ | {"PYTHONPATH": room} | environment, cwd=room)

    SOURCE = """import types, unittest.mock as m
globals().update({name: m.MagicMock() for name in ("MathFidelity", "init_device_compute_kernel_config", "CoreRangeSet", "CoreRange", "CoreCoord",
                  "create_global_semaphore", "FabricConfig", "set_fabric_config", "MeshShape", "DispatchCoreConfig", "DispatchCoreType", "bfloat16", "BufferType")})
get_memory_view = lambda *_: types.SimpleNamespace(total_bytes_allocated_per_bank=0, total_bytes_per_bank=1, num_banks=1)
open_mesh_device = lambda *_, **__: m.MagicMock()
close_mesh_device = lambda _: print("closed")
"""

    @unittest.skipIf(__import__("importlib.util").util.find_spec("ttnn"), "this Python has ttnn")
    def test_one_sentence_and_a_closed_mesh(self):
        for text, words in ((HEAD + BODY, "the recording has no stage clip"), (HEAD + "stage clip\nadd\nend\n", "line 8: add: 'out' is missing"),
                            (HEAD + "stage clip\ncreate act=a0 role=r batch=1 text=sp(3)\nend\n", "should be a number")):
            done = self.checked(text, source=self.SOURCE)
            self.assertEqual((done.returncode, done.stderr.count("\n"), done.stdout.splitlines()[-1]), (1, 2, "closed"), done.stderr)
            self.assertRegex(done.stderr, f"warning: ttnn of unknown version; .*\nflux1_ttnn: .*{words}")
        self.assertIn("Traceback", self.checked(text, "--traceback", source=self.SOURCE).stderr)

    @unittest.skipIf(__import__("importlib.util").util.find_spec("ttnn"), "this Python has ttnn")
    def test_paths_are_of_the_folder_that_the_user_is_in(self):
        source = self.SOURCE + """import os
print({name: value for name, value in os.environ.items() if value.endswith("x/y")}, os.getcwd())
"""
        names = "FLUX1_TTNN_BLOCKINGS", "FLUX1_TTNN_PROFILE", "XDG_CACHE_HOME", "TT_METAL_CACHE"
        done = self.checked(HEAD + BODY, source=source, **{name: "x/y" for name in names})
        self.assertEqual([re.search(rf"'{name}': '/[^']*/x/y'", done.stdout) is not None for name in names], [True] * 4, done.stdout + done.stderr)

    @unittest.skipIf(__import__("importlib.util").util.find_spec("ttnn"), "this Python has ttnn")
    def test_the_plan_is_read_before_the_mesh_is_opened(self):
        row = {"mesh": "2x4", "sp": "2@0", "tp": "4@1", "width": 64, "height": 48, "stages": []}
        stages = [word for stage in ("dit.step", "dit.open") for word in ("--stage", stage)]
        for plan, words in ((json.dumps([row]), None), ("{}", "plan.json has no plan of"), ("[1]", "plan.json is no output of flux1 plan --json")):
            done = self.checked(HEAD + "stage dit.step\nend block=b1\nstage dit.open\nend\n", *stages, "--plan", "plan.json", source=self.SOURCE, plan=plan)
            if words:
                self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1), done.stderr)
                self.assertIn(words, done.stderr)
            else:
                self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (0, "closed"), done.stderr)


class Program(unittest.TestCase):
    def run_on(self, text, *arguments):
        with tempfile.NamedTemporaryFile("w", suffix=".rec") as f:
            f.write(text)
            f.flush()
            return subprocess.run([sys.executable, "-B", WORKER, *arguments, f.name], capture_output=True, text=True, timeout=120)

    def test_read(self):
        done = self.run_on(HEAD + BODY, "read")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("dit.open: 2 lines; create 1, bias 1", done.stdout)

    def test_one_sentence(self):
        for text, arguments, words in ((HEAD, ["read"], "is cut"), ("", ["read"], "is cut"), (HEAD.replace("width=64", "width=x") + BODY, ["read"], "picture should be"),
                                       (HEAD + BODY.replace("@0,4", "@x"), ["read"], "@RANK,RANK"), (HEAD.replace("tp=4", "tp=") + BODY, ["read"], "mesh should be")):
            done = self.run_on(text, *arguments)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
            self.assertIn(words, done.stderr)
        for shape in ("2x", "0x4", "2x4x1", "x"):
            done = self.run_on(HEAD + BODY, "check", "--part-of", shape)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(f"{shape} should be ROWSxCOLUMNS", done.stderr)
        done = subprocess.run([sys.executable, "-B", WORKER, "read", "/nowhere.rec"], capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))

    @unittest.skipIf(__import__("importlib.util").util.find_spec("ttnn"), "this Python has ttnn")
    def test_without_the_library(self):
        done = self.run_on(HEAD + BODY, "check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "cannot import ttnn.*pip install ttnn==")


if __name__ == "__main__":
    unittest.main()
