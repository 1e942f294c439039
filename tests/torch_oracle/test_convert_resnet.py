"""examples/convert_resnet_cifar.py: the checkpoints become runs, as good as their authors say on all test images."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import cnnmath  # noqa: E402
from cnnmath import cli  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "convert_resnet_cifar.py"
# (file, accuracy in percent, loss); 10,000 images take their time: both on the fastest instruction set alone.
CHECKPOINTS = [("resnet20-12fca82f", 91.73, 0.37266), ("resnet32-d509ac18", 92.63, 0.37410)]
CONFIG = cnnmath.build_config()
FAST = CONFIG["isa"] == CONFIG["isas_available"][0]


def convert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("name", "percent", "loss"), CHECKPOINTS if FAST else CHECKPOINTS[:1])
def test_published_accuracy(
    name: str, percent: float, loss: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = os.environ.get("CNNMATH_DATA")
    if not root:
        pytest.skip("CNNMATH_DATA is not set")
    run = tmp_path / "run"
    done = convert(Path(root) / "pretrained" / "resnet-cifar10" / f"{name}.th", "--out", run)
    assert done.returncode == 0, done.stderr
    assert cli.main(["evaluate", str(run), "--root", root]) == 0
    found = re.search(r"Test accuracy: ([\d.]+) %, loss ([\d.]+)", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) == pytest.approx(percent, abs=0.021)  # rounding may turn an image or two
    assert float(found[2]) == pytest.approx(loss, abs=2e-4)


def test_weights_of_another_network_leave_no_run(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "other.th")
    done = convert(tmp_path / "other.th", "--out", tmp_path / "run")
    assert done.returncode == 1 and not (tmp_path / "run").exists()  # weights of another network
