"""Writes flux1/_interface.py: what the public headers declare, for ctypes, so that no struct is written twice.

usage: make_interface.py HEADER... > _interface.py

It reads the C of include/flux1.h and flux1_tools.h, which is all it knows: enums, structs of scalars, pointers, arrays
and function pointers, typedefs of functions, prototypes. A declaration of another kind ends it with a message."""
from __future__ import annotations

import re
import sys

SCALARS = {"char": "c_char", "int": "c_int", "float": "c_float", "double": "c_double", "size_t": "c_size_t",
           "int32_t": "c_int32", "int64_t": "c_int64", "uint8_t": "c_uint8", "uint64_t": "c_uint64"}


class Interface:
    """The declarations of some headers, in their order."""

    def __init__(self) -> None:
        self.version: dict[str, int] = {}
        self.rows: dict[str, list[tuple[str, int]]] = {}  # of X-macros: name, value
        self.enums: dict[str, list[tuple[str, int]]] = {}
        self.structs: dict[str, list[tuple[str, str]]] = {}  # member, type
        self.opaque: set[str] = set()
        self.callbacks: dict[str, str] = {}
        self.functions: dict[str, tuple[str, list[str]]] = {}

    def read(self, text: str) -> None:
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        text = text.replace("\\\n", " ")
        text = re.sub(r"^#ifdef __cplusplus$.*?^#endif$", "", text, flags=re.S | re.M)
        for part, number in re.findall(r"^#define FLUX1_VERSION_(\w+) (\d+)$", text, flags=re.M):
            self.version[part] = int(number)
        for name, rows in re.findall(r"^#define (\w+_MAP)\(X\)(.*)$", text, flags=re.M):
            self.rows[name] = [(n, int(v)) for n, v in re.findall(r"X\((\w+), (\d+),", rows)]
        text = re.sub(r"^#.*$", "", text, flags=re.M).replace("FLUX1_API", " ")
        for statement in statements(text):
            self.declare(" ".join(statement.split()))

    def declare(self, s: str) -> None:
        if m := re.fullmatch(r"typedef enum (\w+) \{(.*)\} \1", s):
            self.enums[m[1]] = self.enumerators(m[2])
        elif m := re.fullmatch(r"typedef struct (\w+) \{(.*)\} \1", s):
            self.structs[m[1]] = [member for line in m[2].split(";") if line.strip() for member in self.members(line)]
        elif m := re.fullmatch(r"typedef struct (\w+) \1", s):
            self.opaque.add(m[1])
        elif m := re.fullmatch(r"typedef (\w+) (\w+)\((.*)\)", s):
            self.callbacks[m[2]] = self.callback(m[1], m[3])
        elif m := re.fullmatch(r"((?:const )?\w+ \**)(\w+)\((.*)\)", s):
            self.functions[m[2]] = (self.type_of(m[1]), self.arguments(m[3]))
        else:
            sys.exit(f"make_interface.py does not understand: {s}")

    def enumerators(self, body: str) -> list[tuple[str, int]]:
        found = []
        for item in filter(None, (i.strip() for i in body.split(","))):
            if m := re.fullmatch(r"(\w+) = (\d+)", item):
                found.append((m[1], int(m[2])))
            elif (m := re.fullmatch(r"(\w+_MAP)\(\w+\)", item)) and m[1] in self.rows:
                found += [("FLUX1_" + name, value) for name, value in self.rows[m[1]]]
            else:
                sys.exit(f"make_interface.py does not understand the enumerator: {item}")
        return found

    def members(self, line: str) -> list[tuple[str, str]]:
        """`const char *sp, *tp`, `int64_t shape[4]`, or a function pointer."""
        if m := re.fullmatch(r"\s*(\w+) \(\*(\w+)\)\((.*)\)\s*", line):
            return [(m[2], self.callback(m[1], m[3]))]
        base, first = re.fullmatch(r"\s*((?:const )?\w+(?: \*const)?) (.*?)\s*", line).groups()
        found = []
        for declarator in first.split(","):
            stars, name, count = re.fullmatch(r"\s*(\**)(\w+)(?:\[(\d+)\])?", declarator).groups()
            kind = self.type_of(f"{base} {stars}")
            found.append((name, f"{kind} * {count}" if count else kind))
        return found

    def callback(self, result: str, arguments: str) -> str:
        return f"CFUNCTYPE({', '.join([self.type_of(result), *self.arguments(arguments)])})"

    def arguments(self, text: str) -> list[str]:
        if text == "void":
            return []
        return [self.type_of(re.sub(r"\w+$", "", argument)) for argument in text.split(",")]

    def type_of(self, text: str) -> str:
        """ctypes' name of a C type. char * that is not const belongs to the caller, who has to give it back: void *."""
        stars = text.count("*")
        constant = text.split()[0] == "const"
        (base,) = re.sub(r"\bconst\b|\*", " ", text).split()
        if base == "void":
            kind, stars = ("c_void_p", stars - 1) if stars else ("None", 0)
        elif base == "char" and stars:
            kind, stars = "c_char_p" if constant else "c_void_p", stars - 1
        elif base in self.opaque:
            kind, stars = "c_void_p", stars - 1
        elif base in self.callbacks:
            kind, stars = base, stars - 1
        elif base in self.structs:
            kind = base
        elif base in self.enums:
            kind = "c_int"
        elif base in SCALARS:
            kind = SCALARS[base]
        else:
            sys.exit(f"make_interface.py does not know the type: {text}")
        return "POINTER(" * stars + kind + ")" * stars

    def write(self, headers: list[str]) -> str:
        lines = [f'"""Made by make_interface.py from {" and ".join(headers)}. Do not edit."""',
                 "from ctypes import *  # noqa: F403",
                 "",
                 f"VERSION = {tuple(self.version[p] for p in ('MAJOR', 'MINOR', 'PATCH'))}"]
        for name, enumerators in self.enums.items():
            lines += ["", f"# {name}", *(f"{n} = {v}" for n, v in enumerators)]
        lines += ["", ""]
        # all classes first, so that a callback's type can name a struct that is described below
        lines += [f"class {name}(Structure):\n    pass\n\n" for name in self.structs]
        lines += [f"{name} = {kind}" for name, kind in self.callbacks.items()]
        for name, members in self.structs.items():
            lines += [f"{name}._fields_ = [", *(f'    ("{n}", {kind}),' for n, kind in members), "]"]
        lines += ["STRUCTS = {" + ", ".join(f'"{name}": {name}' for name in self.structs) + "}",
                  "# name: (result, arguments)",
                  "FUNCTIONS = {",
                  *(f'    "{name}": ({result}, [{", ".join(a)}]),' for name, (result, a) in self.functions.items()),
                  "}"]
        return "\n".join(lines) + "\n"


def statements(text: str):
    """What stands before each semicolon that is outside braces."""
    depth = start = 0
    for i, c in enumerate(text):
        depth += (c == "{") - (c == "}")
        if c == ";" and depth == 0:
            yield text[start:i]
            start = i + 1
    if text[start:].strip():
        sys.exit(f"make_interface.py: a declaration does not end: {text[start:].strip()[:80]}")


def interface(paths: list[str]) -> str:
    found = Interface()
    for path in paths:
        with open(path, encoding="utf-8") as f:
            found.read(f.read())
    return found.write([re.sub(r".*/", "", p) for p in paths])


if __name__ == "__main__":
    sys.stdout.write(interface(sys.argv[1:]))
