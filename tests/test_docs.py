"""The documentation runs: doctests of every module, examples of README.md and docs/; quotes stand in the sources."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import cnnmath

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPTIONAL = {"torch", "sklearn", "onnx", "matplotlib", "PIL"}


def modules() -> list[str]:
    found = pkgutil.walk_packages(cnnmath.__path__, "cnnmath.", onerror=lambda name: None)
    return [m.name for m in found if not m.name.endswith(("__main__", "._core"))]


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {e.name}")
    cnnmath.manual_seed(0)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, out.getvalue()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Interactive examples give what they show; whole programs run."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            out = io.StringIO()
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            runner.run(test, out=out.write, clear_globs=False)
            assert not runner.failures, out.getvalue()
            names = test.globs
        elif block.startswith(("import ", "from ")):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block, str(page), "exec"), {"__name__": "__main__"})


def test_readme_example_learns() -> None:
    """The README's training example reaches a good accuracy."""
    (program,) = [b for b in blocks(ROOT / "README.md", "python") if "trainer.evaluate(" in b]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", out.getvalue()).group(1))  # type: ignore[union-attr]
    assert accuracy > 0.9


def test_readme_commands_are_marked() -> None:
    """.ci/run takes the two commands from README.md by these marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for mark, command in {
        "run": "pip install . && cnnmath train",
        "test": 'pip install ".[test]" && pytest',
    }.items():
        assert f"<!-- ci: {mark} -->\n```sh\n{command}\n```" in text


def test_quotes_stand_in_the_sources() -> None:
    """docs/adding-an-op.md quotes code that exists: line by line, whatever the indentation."""
    page = ROOT / "docs" / "adding-an-op.md"
    sources = [*(ROOT / "python").rglob("*.py"), *(ROOT / "cpp").rglob("*.cpp"), *(ROOT / "cpp").rglob("*.h")]
    lines = {
        line.strip().rstrip("\\").strip()
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    quotes = [b for b in blocks(page, "python") if not b.startswith(">>>")] + blocks(page, "cpp")
    quotes += [b for b in blocks(page, "text") if b.startswith("//")]
    for line in textwrap.dedent("\n".join(quotes)).splitlines():
        assert not line.strip() or line.strip() in lines, line


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_worked_example_of_the_readme() -> None:
    """6 everywhere: 3 * (4 + 0 - 2), not 10, at (0, 0) as well."""
    image = np.tile([4.0, 3.0, 2.0, 1.0, 0.0], (5, 1))
    kernel = np.tile([1.0, 0.0, -1.0], (3, 1))
    by_hand = [[float((image[i : i + 3, j : j + 3] * kernel).sum()) for j in range(3)] for i in range(3)]
    ours = cnnmath.functional.conv2d(image[None, None], kernel[None, None])[0, 0].tolist()
    assert by_hand == ours == [[6.0] * 3] * 3
