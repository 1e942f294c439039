"""What the benchmarks say of libraries that are missing, and of arguments that are wrong, before they measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnmath import cli
from cnnmath.bench import race

PEERS = ("torch", "onnxruntime", "openvino")
BRIEF = ["--rounds", "1", "--seconds", "0.001", "--threads", "1", "--networks", "lenet5", "--batch", "2"]


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    find = race.find_spec
    monkeypatch.setattr(race, "find_spec", lambda name: None if name in PEERS else find(name))


@pytest.mark.usefixtures("no_peers")
def test_missing_peers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "peers", *BRIEF, "--plot", str(tmp_path / "plots")]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    told, *pictures = captured.err.splitlines()
    assert told == (
        'not installed: torch, onnxruntime, openvino (pip install torch, pip install "cnnmath[bench]")'
    )
    for line, mode in zip(pictures, ("train", "infer"), strict=True):
        assert f"peers-{mode}.png is not drawn: there is no other library" in line
    assert not list((tmp_path / "plots").iterdir()) and "lenet5" in captured.out


@pytest.mark.usefixtures("no_peers")
@pytest.mark.parametrize("case", ["steps", "memory", "overheads"])
def test_a_missing_library_that_is_named_is_an_error(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", case, "--libraries", "cnnmath", "torch-channels_last"])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert "argument --libraries: not installed: torch (pip install torch)" in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("no_peers")
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("learning", "learning compares with PyTorch; not installed: torch (pip install torch)"),
        ("cliffs", "cliffs compares two libraries, got cnnmath"),
    ],
)
def test_cases_that_need_pytorch(case: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", case]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"cnnmath: error: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps", "--batch", "0"], "argument --batch: expected a whole number from 1, got 0"),
        (["steps", "--rounds", "0"], "argument --rounds: expected a whole number from 1, got 0"),
        (["ops", "--seconds", "0"], "argument --seconds: expected a number above 0, got 0"),
        (["gemm", "--threads", "0"], "argument --threads: expected a whole number from 1 to 1024, got 0"),
        (["scaling", "--size", "8", "0"], "argument --size: expected a whole number from 1, got 0"),
        (["profile", "--steps", "many"], "argument --steps: invalid whole number value: 'many'"),
        (["peak", "--json", "."], "argument --json: . is a folder"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", *arguments])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_files_are_seen_to_before_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnnmath.bench.peers.contest", lambda *_, **__: pytest.fail("it is measured"))
    (tmp_path / "file").touch()
    assert cli.main(["bench", "steps", *BRIEF, "--json", str(tmp_path / "file" / "rows.json")]) == 1
    assert "file" in capsys.readouterr().err
    monkeypatch.setattr("cnnmath.bench.peers.contest", lambda *_, **__: [])
    monkeypatch.setattr("cnnmath.bench.peers.with_peak", lambda rows, _: rows)
    assert cli.main(["bench", "steps", *BRIEF, "--json", str(tmp_path / "new" / "rows.json")]) == 0
    assert '"rows": []' in (tmp_path / "new" / "rows.json").read_text()


def test_too_few_steps_to_compare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from cnnmath import data

    part = data.load_digits().split()[1]
    monkeypatch.setattr(data, "mnist", lambda: (part, part))
    assert cli.main(["bench", "learning", "--batch", "100", "--epochs", "1"]) == 1
    assert "expected at least 5 steps, got 3: 360 images, --batch 100, --epochs 1" in capsys.readouterr().err
