"""`cnnmath train --resume`: runs that were interrupted, killed, full disks, divergence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cnnmath
from cnnmath import cli
from cnnmath.callbacks import BackupAndRestore

TRAIN = ["train", "--epochs", "4", "--batch-size", "100", "--seed", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.train.plot, "after_training", lambda *_: None)  # which takes its time
    return tmp_path


def numbers(folder: str | Path) -> dict[str, Any]:
    """metrics.json, without the time."""
    found: dict[str, Any] = json.loads((Path(folder) / "metrics.json").read_text())
    assert found.pop("seconds") > 0
    return found


def same(a: str | Path, b: str | Path) -> bool:
    """Whether two runs have the same weights, to the bit, and the same numbers."""
    weights = [(Path(folder) / "model.safetensors").read_bytes() for folder in (a, b)]
    names = [sorted(p.name for p in Path(folder).iterdir() if p.suffix != ".png") for folder in (a, b)]
    return weights[0] == weights[1] and numbers(a) == numbers(b) and names[0] == names[1]


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int, error: type[BaseException]) -> None:
    """The next training ends with this error after so many epochs."""
    save, count = BackupAndRestore.on_checkpoint, 0

    def saved(self: BackupAndRestore) -> None:
        nonlocal count
        due = self._due
        save(self)
        count += due
        if count == after and error is not None:
            monkeypatch.setattr(BackupAndRestore, "on_checkpoint", save)
            raise error

    monkeypatch.setattr(BackupAndRestore, "on_checkpoint", saved)


KINDS = {
    "onecycle": ["--augment", "--dropout", "0.3"],
    "cosine": ["--optimizer", "momentum", "--nesterov", "--schedule", "cosine", "--lr", "0.05", "--l2", "0.001"],
    "step": ["--optimizer", "adam", "--schedule", "step", "--label-smoothing", "0.1", "--weight-decay", "0.01"],
    "none": ["--optimizer", "sgd", "--schedule", "none", "--lr", "0.1"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, *KINDS[kind]]
    assert cli.main([*command, "--out", "whole"]) == 0
    interrupt(monkeypatch, 2, KeyboardInterrupt)
    capsys.readouterr()
    assert cli.main([*command, "--out", "parts"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "cnnmath: interrupted: go on with cnnmath train --resume parts\n"
    assert "Epoch 2/4" in captured.out and "Epoch 3/4" not in captured.out
    assert not Path("parts/metrics.json").exists()
    assert cli.main(["evaluate", "parts"]) == 1
    assert capsys.readouterr().err.endswith(
        "parts is not finished: go on with cnnmath train --resume parts\n"
    )
    # Options of the run may be repeated; threads change nothing.
    assert cli.main([*command, "--resume", "parts", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "Going on with epoch 3" in out and "Epoch 3/4" in out and "Epoch 2/4" not in out
    assert same("whole", "parts")
    assert Path("parts/checkpoint.safetensors").exists() == (kind == "none")


def start(*arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, with Ctrl-C as a terminal gives it, even under a shell's background job."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from cnnmath.cli import main; sys.exit(main())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=pipe, stderr=pipe, text=True, env=env
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_signals(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that is told to end, or is ended, in the middle of a training; and then once more."""
    command = ["train", "--epochs", "12", "--batch-size", "8", "--seed", "3"]
    assert cli.main([*command, "--out", "whole"]) == 0
    arguments = [*command, "--out", "parts"]
    for epoch in (3, 7):
        with start(*arguments) as process:
            assert process.stdout is not None and process.stderr is not None
            for line in process.stdout:
                if line.startswith(f"Epoch {epoch}/12"):
                    break
            time.sleep(0.05)  # into the next epoch
            process.send_signal(number)
            out, err = process.communicate()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert err == "cnnmath: interrupted: go on with cnnmath train --resume parts\n"
        else:
            assert process.returncode == -number and err == ""
        assert f"Epoch {epoch + 5}/12" not in out
        arguments = ["train", "--resume", "parts"]
    assert cli.main(arguments) == 0
    assert same("whole", "parts")


def test_killed_before_the_first_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the options are there: the training begins anew, in its folder."""
    assert cli.main([*TRAIN, "--out", "whole"]) == 0
    Path("parts").mkdir()
    options = json.loads(Path("whole/options.json").read_text())
    del options["label_smoothing"]  # as if there had been no such option yet
    Path("parts/options.json").write_text(json.dumps(options))
    assert cli.main(["train", "--resume", "parts"]) == 0
    assert same("whole", "parts")


def test_further_epochs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = ([*TRAIN, "--schedule", "none", "--epochs", n] for n in ("2", "4"))
    assert cli.main([*long, "--out", "whole"]) == cli.main([*short, "--out", "parts"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", "parts"]) == 0
    accuracy = f"{100 * numbers('parts')['test_accuracy']:.2f} %"
    assert capsys.readouterr().out == (
        f"parts is finished: 2 epochs, test accuracy {accuracy}; --epochs N trains further\n"
    )
    interrupt(monkeypatch, 1, KeyboardInterrupt)
    assert cli.main(["train", "--resume", "parts", "--epochs", "4"]) == 130
    assert len(numbers("parts")["history"]["loss"]) == 2  # those of before
    assert cli.main(["train", "--resume", "parts"]) == 0  # the new number is noted
    assert same("whole", "parts")


def test_a_finished_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TRAIN, "--out", "run"]) == 0
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    capsys.readouterr()
    assert cli.main(["train", "--resume", "run"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("run is finished: 4 epochs, test accuracy ") and line.endswith(" %\n")
    assert {p.name: p.read_bytes() for p in Path("run").iterdir()} == before


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "parts"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1, KeyboardInterrupt)
        assert cli.main([*TRAIN, "--momentum", "0.8", "--optimizer", "momentum", "--out", str(folder)]) == 130
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.1"], "argument --lr: 0.1 contradicts {0}, which has 0.01"),
        (["--momentum", "0.9"], "argument --momentum: 0.9 contradicts {0}, which has 0.8"),
        (["--weight-decay", "0"], "argument --weight-decay: 0.0 contradicts {0}, which has none"),
        (["--data", "mnist"], "argument --data: mnist contradicts {0}, which has digits"),
        (["--out", "other"], "--out is for a new run, --resume goes on in {0}"),
        (["--nesterov"], "argument --nesterov: True contradicts"),
        (["--epochs", "3"], "argument --epochs: expected at least those of {0}, 4, got 3"),
        (["--epochs", "5"], "argument --epochs: the schedule onecycle of {0} ends after 4 epochs; only runs with"),
    ],
)  # fmt: skip
def test_contradictions(
    arguments: list[str], message: str, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p.name: p.read_bytes() for p in interrupted.iterdir()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--resume", str(interrupted), *arguments])
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert end.value.code == 2 and captured.out == "" and message.format(interrupted) in line
    assert {p.name: p.read_bytes() for p in interrupted.iterdir()} == before


def test_what_cannot_go_on(interrupted: Path, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "empty").mkdir()
    for name in ("cut", "other", "fewer", "damaged"):
        shutil.copytree(interrupted, here / name)
    cut = here / "cut" / "checkpoint.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    (here / "other" / "options.json").write_text("[1, 2]")
    (here / "damaged" / "options.json").write_text("{")
    options = json.loads((here / "fewer" / "options.json").read_text())
    (here / "fewer" / "options.json").write_text(json.dumps({**options, "images": 1000}))
    for folder, message in (
        ("nowhere", "nowhere: no such run folder"),
        ("empty", "empty is no run folder: it has no options.json"),
        ("cut", "load: cut/checkpoint.safetensors is no safetensors file, or it is damaged"),
        ("other", "other/options.json: not the options of a run"),
        ("damaged", "damaged/options.json: damaged"),
        ("fewer", "fewer was trained on 1000 images, but now there are 1437"),
    ):
        files = sorted(here.rglob("*"))
        assert cli.main(["train", "--resume", folder]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("cnnmath: error: ") and message in line
        assert sorted(here.rglob("*")) == files  # nothing is lost


def test_a_folder_of_images_that_has_moved(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    for i in range(24):
        path = here / "first" / ("dark" if i % 2 else "bright") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (8, 9), 10 * i % 100 + 100 * (i % 2)).save(path)
    command = [*TRAIN, "--data", "first", "--image-size", "8", "--batch-size", "5"]
    assert cli.main([*command, "--out", "whole"]) == 0
    interrupt(monkeypatch, 2, KeyboardInterrupt)
    assert cli.main([*command, "--out", "parts"]) == 130
    (here / "first").rename(here / "second")
    assert cli.main(["train", "--resume", "parts"]) == 1
    assert "first" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "parts", "--root", "second"]) == 0
    weights = [Path(run, "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1] and numbers("parts")["data"] == str(here / "second")


# What goes wrong.


def test_an_error_keeps_what_was_achieved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*TRAIN, "--out", "whole"]) == 0
    interrupt(monkeypatch, 2, MemoryError)
    assert cli.main([*TRAIN, "--out", "parts"]) == 1
    assert capsys.readouterr().err == "cnnmath: error: MemoryError\n"
    assert cli.main(["train", "--resume", "parts"]) == 0
    assert same("whole", "parts")


GROWING = [
    "--optimizer",
    "sgd",
    "--lr",
    "1",
    "--weight-decay",
    "21",
    "--schedule",
    "none",
    "--batch-size",
    "200",
]


def test_divergence(capsys: pytest.CaptureFixture[str]) -> None:
    """Weights grow twentyfold with each step: the first epoch of 8 steps ends well, the second one does not."""
    assert cli.main(["train", "--epochs", "4", *GROWING, "--out", "run"]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("cnnmath: error: the training diverged: the loss of step ")
    assert line.endswith(" is nan; run has the weights after epoch 1, a lower --lr may help")
    assert "Test accuracy" in captured.out and "Epoch 2" not in captured.out
    found = numbers("run")
    assert len(found["history"]["loss"]) == 1 and found["diverged"].endswith("is nan")
    assert all(abs(a).max() < float("inf") for a in cnnmath.load("run/model.safetensors").values())
    assert cli.main(["evaluate", "run"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cnnmath: error: run diverged: the loss of step ") and "train anew" in line


def test_divergence_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--optimizer", "sgd", "--lr", "1e30", "--out", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cnnmath: error: the training diverged: the loss of step ")
    assert line.endswith(" in epoch 1 is nan; nothing is kept, a lower --lr may help")
    assert not list(here.iterdir())


def test_weights_that_are_not_finite_after_an_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss is that of before the update: the last update of an epoch may spoil the weights unseen."""
    step, count = cnnmath.Trainer._train_step, 0

    def spoils(self: cnnmath.Trainer, *batch: Any) -> Any:
        nonlocal count
        count += 1
        done = step(self, *batch)
        if count == 30:
            self.model[0].weight[0] = float("inf")
        return done

    monkeypatch.setattr(cnnmath.Trainer, "_train_step", spoils)
    assert cli.main([*TRAIN, "--out", "run"]) == 1
    assert "diverged: after epoch 2 0.weight is not finite; run has the weights after epoch 1" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("room", [100, 30_000])
def test_full_disk(room: int, here: Path, run_python: Any) -> None:
    """The error names the file in one line. Without a checkpoint no trace is left; with one, the run goes on."""
    main = "import resource, sys, cnnmath.cli\n{}sys.exit(cnnmath.cli.main({}))"
    full = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
    done = run_python(main.format(full, [*TRAIN, "--out", "run"]), check=False)
    assert done.returncode == 1
    name = "run/options.json" if room == 100 else "run/checkpoint.safetensors"
    assert done.stderr == f"cnnmath: error: {name}: File too large\n"
    assert not list(here.iterdir())


def test_full_disk_later(here: Path, monkeypatch: pytest.MonkeyPatch, run_python: Any) -> None:
    assert cli.main([*TRAIN, "--out", "whole"]) == 0
    interrupt(monkeypatch, 1, KeyboardInterrupt)
    assert cli.main([*TRAIN, "--out", "parts"]) == 130
    before = (here / "parts" / "checkpoint.safetensors").read_bytes()
    code = "import resource, sys, cnnmath.cli\nresource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
    done = run_python(code + "sys.exit(cnnmath.cli.main(['train', '--resume', 'parts']))", check=False)
    assert done.stderr == "cnnmath: error: parts/checkpoint.safetensors: File too large\n"
    assert (here / "parts" / "checkpoint.safetensors").read_bytes() == before
    assert cli.main(["train", "--resume", "parts"]) == 0
    assert same("whole", "parts")
