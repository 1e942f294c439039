"""Files survive what ends the process that writes them: kill -9, a full disk, another writer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath.io import append_bytes, write_bytes

# A disk with room for so many bytes of a file: writing more fails, as on one that is full.
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


def test_killed_at_any_moment(tmp_path: Path, rng: np.random.Generator) -> None:
    """The newest file is always whole, and what it had promised before the kill is in it."""
    path = tmp_path / "a.safetensors"
    code = f"""
import os, numpy as np, cnnmath
number = cnnmath.load({str(path)!r})["number"] if os.path.exists({str(path)!r}) else 0
while True:
    number += 1
    cnnmath.save({{"number": number, "a": np.full(300_000, number), "b": np.full(50, number)}}, {str(path)!r})
    print(number, flush=True)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as process:
            assert process.stdout is not None
            promised = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
            for line in process.stdout:
                promised = int(line) if line.endswith(b"\n") else promised
        found = cnnmath.load(path)
        assert found["number"] >= promised
        assert (found["a"] == found["number"]).all() and (found["b"] == found["number"]).all()
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names in (["a.safetensors"], [".a.safetensors.part", "a.safetensors"])
    cnnmath.save({"a": np.zeros(3)}, path)  # takes it over
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_a_killed_writer_left_is_used_again(tmp_path: Path) -> None:
    (tmp_path / ".w.part").write_bytes(b"half of something much longer")
    write_bytes(tmp_path / "w", b"whole")
    assert (tmp_path / "w").read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "w"
    contents = [bytes([i]) * 200_000 for i in range(6)]
    done = []

    def write(content: bytes) -> None:
        for _ in range(20):
            write_bytes(path, content)
            assert path.read_bytes() in contents
        done.append(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6 and [p.name for p in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("what", ["weights", "state"])
def test_full_disk(what: str, tmp_path: Path, run_python: Any) -> None:
    """The error names the file; the one before stays; nothing is left beside."""
    path = tmp_path / "a.safetensors"
    cnnmath.save({"a": np.arange(3)}, path)
    more = ', "n": 3' if what == "state" else ""
    code = (
        FULL.format(10_000)
        + f"import cnnmath, numpy; cnnmath.save({{'a': numpy.zeros(9000){more}}}, {str(path)!r})"
    )
    done = run_python(code, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert cnnmath.load(path)["a"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_appending_to_a_full_disk(tmp_path: Path, run_python: Any) -> None:
    path = tmp_path / "log"
    append_bytes(path, b"first\n")
    code = f"from pathlib import Path; from cnnmath.io import append_bytes; append_bytes(Path({str(path)!r}), b'x' * 9)"
    done = run_python(FULL.format(10) + code, check=False)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert path.read_bytes() == b"first\n"  # not the four bytes that there was room for
    append_bytes(path, b"second\n")
    assert path.read_bytes() == b"first\nsecond\n"


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for write in (write_bytes, append_bytes):
        with pytest.raises(IsADirectoryError, match=r"folder'$"):
            write(tmp_path / "folder", b"x")
        with pytest.raises(FileNotFoundError, match=r"none/a'$"):
            write(tmp_path / "none" / "a", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure a renamed file must not be empty: fsync, rename, fsync of the folder, in this order."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(number: int) -> None:
        calls.append("fsync of the folder" if os.path.isdir(f"/dev/fd/{number}") else "fsync")
        fsync(number)

    def noted_replace(*paths: Any) -> None:
        calls.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_bytes(tmp_path / "w", b"x")
    assert calls == ["fsync", "replace", "fsync of the folder"]
