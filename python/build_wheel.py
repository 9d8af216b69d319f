"""Packs flux1/ with libflux1.so as a wheel. It is pyproject.toml's backend too, and needs the standard library alone.

usage: build_wheel.py [--library libflux1.so] --out FOLDER     writes the wheel, prints its name
       build_wheel.py --library libflux1.so --stage FOLDER     makes FOLDER/flux1, to import from a build (PYTHONPATH=FOLDER)

The library is the one that `cmake --build build -t wheel` makes: it contains what Debian's shared libraries would give
it, so that the wheel runs wherever glibc is as new. Another library is packed with a tag for this system alone."""
from __future__ import annotations

import argparse
import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from make_interface import interface

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent
HEADERS = [str(SOURCE / "include" / name) for name in ("flux1.h", "flux1_tools.h")]
# what every Linux with a glibc has: PEP 600's libraries, as far as libflux1 uses them
EVERYWHERE = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
METADATA = """Metadata-Version: 2.1
Name: flux1
Version: {version}
Summary: FLUX.1 text to image by libflux1, with the calls of diffusers' FluxPipeline
License: Apache-2.0
Requires-Python: >=3.9
Requires-Dist: numpy
Provides-Extra: pil
Requires-Dist: pillow ; extra == "pil"
Description-Content-Type: text/markdown

{description}"""


def version_of(text: str) -> str:
    return ".".join(re.search(r"^VERSION = \((\d+), (\d+), (\d+)\)$", text, flags=re.M).groups())


def sources() -> list[Path]:
    return sorted(p for p in (HERE / "flux1").iterdir() if p.suffix == ".py" or p.name == "py.typed")


def needed(library: Path) -> set[str]:
    listing = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", listing))


def tag_of(library: Path) -> str:
    others = sorted(needed(library) - EVERYWHERE)
    machine = platform.machine()
    libc, number = platform.libc_ver()
    if others or libc != "glibc":
        print(f"note: {library.name} needs {', '.join(others) or 'a libc that is not glibc'}: the wheel is for systems "
              "like this one", file=sys.stderr)
        return f"py3-none-linux_{machine}"
    return f"py3-none-manylinux_{number.replace('.', '_')}_{machine}"


def record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def contents(library: Path, tag: str) -> dict[str, bytes]:
    """All files of the wheel but RECORD."""
    own = interface(HEADERS)
    version = version_of(own)
    info = f"flux1-{version}.dist-info"
    files = {f"flux1/{p.name}": p.read_bytes() for p in sources()}
    files["flux1/_interface.py"] = own.encode()
    files["flux1/libflux1.so"] = library.read_bytes()
    description = (SOURCE / "docs" / "python.md").read_text(encoding="utf-8")
    files[f"{info}/METADATA"] = METADATA.format(version=version, description=description).encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: flux1\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    for path in (SOURCE / "LICENSE", SOURCE / "NOTICE", HERE / "NOTICE.libraries"):
        files[f"{info}/licenses/{path.name}"] = path.read_bytes()
    return files


def write_wheel(folder: Path, library: Path) -> str:
    """The same files give the same bytes; SOURCE_DATE_EPOCH is their date."""
    tag = tag_of(library)
    files = contents(library, tag)
    info = next(name for name in files if name.endswith(".dist-info/WHEEL")).rsplit("/", 1)[0]
    record = "".join(f"{name},{record_hash(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    date = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", 0)), 315532800))[:6]  # a zip begins in 1980
    name = f"{info.removesuffix('.dist-info')}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / (name + ".tmp")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as z:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, date)
            entry.external_attr = (0o755 if path.endswith(".so") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)
    unfinished.replace(folder / name)
    return name


def stage(folder: Path, library: Path) -> None:
    package = folder / "flux1"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for path in sources():
        shutil.copy(path, package)
    (package / "_interface.py").write_text(interface(HEADERS), encoding="utf-8")
    (package / "libflux1.so").symlink_to(library.resolve())


def built_library() -> Path:
    for path in (os.environ.get("FLUX1_LIBRARY"), SOURCE / "build" / "wheel" / "libflux1.so"):
        if path and Path(path).is_file():
            return Path(path)
    sys.exit("there is no library to pack: cmake --build build -t wheel makes it, or FLUX1_LIBRARY names one")


# ---- what PEP 517 asks for

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(Path(wheel_directory), built_library())


def build_sdist(sdist_directory, config_settings=None):
    sys.exit("flux1's sources are no Python package: the release's archive has them")


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs flux1 as a wheel.")
    parser.add_argument("--library", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path)
    where.add_argument("--stage", type=Path)
    a = parser.parse_args()
    library = a.library or built_library()
    if not library.is_file():
        sys.exit(f"{library}: there is no such file")
    if a.stage:
        stage(a.stage, library)
    else:
        print(write_wheel(a.out, library))


if __name__ == "__main__":
    main()
