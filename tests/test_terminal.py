"""What a terminal shows of a training, whatever its size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest


def on_terminal(rows: int, columns: int, command: list[str], folder: Path) -> list[str]:
    """The lines that a program writes to a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, cwd=folder) as program:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(ours, 4096):
                output += part
        os.close(ours)
    assert program.returncode == 0, output
    return output.decode().replace("\r\n", "\n").split("\n")


def seen(line: str) -> str:
    """What stays of a line: what follows a carriage return is written over what came before."""
    left = ""
    for part in line.split("\r"):
        left = part + left[len(part) :]
    return left.rstrip()


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (0, 0)])
def test_the_numbers_of_an_epoch_can_be_read(rows: int, columns: int, tmp_path: Path) -> None:
    """The bar fits, and gives way to the line; a terminal that does not know its size shows the lines alone."""
    command = [sys.executable, "-m", "cnnmath", "train", "--epochs", "2", "--validation", "0.2"]
    lines = on_terminal(rows, columns, command, tmp_path)
    shown = [seen(line) for line in lines]
    assert [line[:10] for line in shown[1:3]] == ["Epoch 1/2 ", "Epoch 2/2 "] and shown[3] == ""
    for line in shown[1:3]:
        names = [part.split(": ")[0] for part in line.split(" - ")[2:]]
        assert names == ["loss", "accuracy", "val_loss", "val_accuracy"] and "|" not in line
    bars = [part for line in lines[1:3] for part in line.split("\r") if "step/s" in part]
    assert bool(bars) == bool(columns)
    if columns:
        assert max(map(len, bars)) < columns and all(bar.endswith("]") for bar in bars)
