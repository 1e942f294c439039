"""What is installed: version, typing, import time, and which symbols the kernels' objects offer the linker."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cnnmath

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(cnnmath.__file__).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_version_is_the_one_of_the_project() -> None:
    (line,) = [s for s in (ROOT / "pyproject.toml").read_text().splitlines() if s.startswith("version = ")]
    assert cnnmath.__version__ == line.split('"')[1]
    try:
        installed = importlib.metadata.version("cnnmath")
    except importlib.metadata.PackageNotFoundError:
        return  # run from the source tree
    assert installed == cnnmath.__version__


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()


def test_installed_size() -> None:
    """The package is a few MB: kernels for each instruction set, no debugging symbols, no bulky data."""
    total = sum(p.stat().st_size for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert total < 15e6


def test_public_names_exist() -> None:
    assert sorted(cnnmath.__all__) == cnnmath.__all__
    for name in cnnmath.__all__:
        assert getattr(cnnmath, name) is not None
    assert sorted(cnnmath.functional.__all__) == cnnmath.functional.__all__
    for name in cnnmath.functional.__all__:
        assert getattr(cnnmath.functional, name).__doc__, f"functional.{name} has no docstring"


def test_import_loads_little(run_python: Run) -> None:
    """What one use needs is imported at that use."""
    out = run_python("import sys, cnnmath; print(*sys.modules)").stdout.split()
    heavy = {
        "tqdm",
        "safetensors",
        "argparse",
        "torch",
        "scipy",
        "matplotlib",
        "sklearn",
        "onnx",
        "PIL",
        "unittest",
    }
    from_numpy = set(run_python("import sys, numpy; print(*sys.modules)").stdout.split())
    assert not (heavy & set(out)) - from_numpy


def test_import_takes_little_more_than_numpy(run_python: Run) -> None:
    """At most 60 ms beyond NumPy's own import, by the median of fresh interpreters; in CPU time, so that a busy machine
    does not count."""
    code = (
        "import time; t0 = time.process_time(); import numpy; t1 = time.process_time(); import cnnmath;"
        "print(time.process_time() - t1)"
    )
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}  # the first run leaves .pyc files, whatever the environment
    run_python(code, **compiled)
    own = [float(run_python(code, **compiled).stdout) for _ in range(9)]
    assert statistics.median(own) <= 0.060, own


def kernel_objects() -> dict[str, list[Path]]:
    """Object files of the newest build below build/, by instruction set."""
    found: dict[str, list[Path]] = {}
    builds = [p for p in ROOT.glob("build/*") if any(p.glob("CMakeFiles/kernels_*.dir"))]
    if builds:
        newest = max(builds, key=lambda p: (p / "CMakeCache.txt").stat().st_mtime)
        for folder in newest.glob("CMakeFiles/kernels_*.dir"):
            objects = sorted(
                o for o in folder.rglob("*.o") if (ROOT / o.relative_to(folder).with_suffix("")).is_file()
            )
            found[folder.name.removeprefix("kernels_").removesuffix(".dir")] = objects
    return found


def symbols(path: Path) -> Iterator[tuple[str, str]]:
    """(type letter of nm, mangled name) of the global symbols of an object file."""
    listing = subprocess.run(["nm", "--extern-only", path], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        *_, letter, name = line.split()
        yield letter, name


def test_kernels_offer_the_linker_nothing_outside_their_namespace() -> None:
    """A weak or unique symbol of an AVX-512 object may become everybody's copy, and an illegal instruction elsewhere.

    Nor do they ask for more than memory functions: whatever libm or the C++ library does is not ours to reproduce.
    """
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    objects = kernel_objects()
    if not objects:
        pytest.skip("needs a build folder: pip install . makes one")
    assert set(objects) == set(cnnmath.build_config()["isas_built"])
    allowed = {"memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    for isa, files in objects.items():
        assert files
        ours = re.compile(rf"_Z(Z|GV|T[VIS])*L?N[KVrRO]*7cnnmath{len(isa)}{isa}")
        for path in files:
            for letter, name in symbols(path):
                undefined = letter in "Uw"
                assert ours.match(name) or (undefined and name in allowed), (
                    f"{path.name} ({isa}): {letter} {name}"
                )


def test_symbol_check_notices_a_leak(tmp_path: Path) -> None:
    """The oracle itself: an inline function of another namespace is seen as a weak symbol."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("needs a C++ compiler and nm")
    source = tmp_path / "leak.cpp"
    source.write_text(
        "template <class T> [[gnu::noinline]] T f(T x) { return x + 1; } int g(int x) { return f(x); }"
    )
    subprocess.run([compiler, "-O2", "-c", source, "-o", tmp_path / "leak.o"], check=True)
    assert ("W", "_Z1fIiET_S0_") in set(symbols(tmp_path / "leak.o"))
