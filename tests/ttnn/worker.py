"""The parts of tools/ttnn/flux1_ttnn.py that need no library: reading recordings, and what the library does not check without a card."""
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
WORKER = os.path.join(SOURCE, "tools/ttnn/flux1_ttnn.py")
sys.path.insert(0, os.path.dirname(WORKER))
sys.dont_write_bytecode = True
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
                            (HEAD + BODY.replace("batch=1", "cols=1"), "each key once")):
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

    def test_chunks_of_attention(self):
        worker.check_chunks(128, 512, 128)
        for q, k, words in ((128, 4096, "take"), (128, 500, "multiples of 32"), (0, 512, "multiples of 32"), (100, 512, "multiples of 32")):
            with self.assertRaisesRegex(worker.Refused, words):
                worker.check_chunks(q, k, 128)
        self.assertEqual([worker.chunk_of(n, 512) for n in (1, 32, 96, 513, 4352)], [32, 32, 64, 512, 512])


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
        for text, arguments, words in ((HEAD, ["read"], "is cut"), ("", ["read"], "is cut")):
            done = self.run_on(text, *arguments)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
            self.assertIn(words, done.stderr)
        done = subprocess.run([sys.executable, "-B", WORKER, "read", "/nowhere.rec"], capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))

    @unittest.skipIf(__import__("importlib.util").util.find_spec("ttnn"), "this Python has ttnn")
    def test_without_the_library(self):
        done = self.run_on(HEAD + BODY, "check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "cannot import ttnn.*pip install ttnn==")


if __name__ == "__main__":
    unittest.main()
