"""The code base itself: imports point one way, references stand alone, files stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "cnnmath"

# From the ground up: each room may import those of the layers below it, and its own. Rooms of one layer do not know
# each other.
LAYERS: list[set[str]] = [
    {"_arguments", "_core", "_hints", "reference"},
    {"_load"},
    {"machine", "graph"},
    {"planner"},
    {"functional"},
    {"derivatives", "initializers"},
    {"nn"},
    {"losses", "optim", "metrics", "data"},
    {"regularizers"},
    {"io", "models"},
    {"training"},
    {"callbacks"},
    {"__version__"},  # the package as a whole
    {"onnx", "viz"},
    {"sklearn"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_modules(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, parts of the full name) of each module of ours that a file imports at run time, inside functions too."""
    package = ["cnnmath", *path.relative_to(PACKAGE).with_suffix("").parts][:-1]
    for node in _outside_type_checking(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield node.lineno, [*base, alias.name]


def _outside_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _outside_type_checking(node)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p != PACKAGE / "__init__.py"], ids=lambda p: str(p.name)
)
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in LAYER, f"{room} has no layer: give it one in this file"
    for line, (first, *rest) in imported_modules(path):
        if first != "cnnmath":
            continue
        other = rest[0] if rest else ""
        assert other in LAYER, f"{path.name}:{line} imports {other or 'cnnmath itself'}, which has no layer"
        below = LAYER[other] < LAYER[room]
        assert below or other == room, f"{path.name}:{line}: {room} must not import {other}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "reference").glob("*.py")), ids=lambda p: p.name)
def test_references_stand_alone(path: Path) -> None:
    for line, parts in imported_modules(path):
        assert parts[:2] == ["cnnmath", "reference"] or parts[0] in {
            "__future__",
            "collections",
            "math",
            "numpy",
            "typing",
        }, f"{path.name}:{line} imports {'.'.join(parts)}"


def test_run_time_needs_only_the_core_dependencies_at_import() -> None:
    """Extras are imported on use: inside functions, never at the top of a module that `import cnnmath` reaches."""
    allowed_anywhere = {"sklearn.py", "onnx", "viz"}
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).parts
        if parts[0] in allowed_anywhere or parts == ("bench", "onnx_model.py"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for name in names:
                assert name.split(".")[0] not in {"torch", "sklearn", "scipy", "matplotlib", "onnx", "PIL"}, (
                    f"{path.name} imports {name}"
                )


def long_files() -> list[str]:
    files = [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "cpp").rglob("*.cpp"),
        *(ROOT / "cpp").rglob("*.h"),
        *ROOT.glob("tests/*.py"),
    ]
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    return [f"{p.relative_to(ROOT)}: {n}" for p, n in lengths.items() if n > 530]


def test_files_stay_short() -> None:
    """About 500 lines: a file that needs a table of contents wants to be two files."""
    assert not long_files()


def test_kernel_sources_include_little() -> None:
    """What a kernel includes is compiled for its instruction set: an inline function from elsewhere could be the copy
    that the linker keeps for everyone."""
    headers = {"<cstdint>", "<cstddef>", "<immintrin.h>", "<arm_neon.h>"}
    for path in sorted([*(ROOT / "cpp" / "kernels").rglob("*.[ch]*"), *(ROOT / "cpp" / "simd").rglob("*.h")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith("#include"):
                what = line.split(None, 1)[1].split("//")[0].strip()
                ours = what.startswith(('"simd/', '"kernels/', '"core/kernel.h"'))
                assert ours or what in headers, f"{path.relative_to(ROOT)}: {line}"


def test_only_the_executor_opens_parallel_regions() -> None:
    users = {
        str(p.relative_to(ROOT / "cpp"))
        for p in (ROOT / "cpp").rglob("*.[ch]*")
        if "#pragma omp" in p.read_text(encoding="utf-8") or "<omp.h>" in p.read_text(encoding="utf-8")
    }
    assert users == {"core/parallel.cpp"}
