"""The programs of examples/ run, and their results are as good as they say."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

import cnnmath

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_train_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not os.environ.get("CNNMATH_DATA"):
        pytest.skip("CNNMATH_DATA is not set")
    weights = tmp_path / "weights.safetensors"
    main = runpy.run_path(str(EXAMPLES / "train_mnist.py"))["main"]
    accuracy = main(["--images", "5000", "--epochs", "3", "--save", str(weights)])
    assert accuracy > 0.95
    assert f"{100 * accuracy:.2f} % of 10000 test images are right" in capsys.readouterr().out
    # The weights that it wrote are those that it tested.
    (x, _), (x_test, y_test) = cnnmath.data.mnist()
    model = cnnmath.models.lenet5()
    model.load_state_dict(cnnmath.load(weights))
    x_test = (x_test - np.float32(x[:5000].mean())) / np.float32(x[:5000].std())
    found = model.eval()(x_test).argmax(1)
    assert np.mean(found == y_test) == pytest.approx(accuracy, abs=2e-3)


def test_examples_name_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(EXAMPLES.glob("*.py")):
        main = runpy.run_path(str(path))["main"]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as exited:
            patch.setattr("sys.argv", [path.name, "--help"])
            main()
        assert exited.value.code == 0 and path.name in capsys.readouterr().out
