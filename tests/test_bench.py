"""The benchmarks from the command line: what they measure, and that libraries agree before it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnnmath import data
from cnnmath.bench import cliffs
from cnnmath.bench.__main__ import BRIEF as BRIEF_CASE
from cnnmath.bench.__main__ import main as bench_main
from cnnmath.bench.backends import network_session
from cnnmath.bench.layers import layer_session, planned
from cnnmath.bench.networks import UNTUNED, flops, network
from cnnmath.bench.ops import OPS
from cnnmath.bench.overheads import overhead_session
from cnnmath.bench.race import Runner, Team, WrongAnswer, installed, race
from cnnmath.bench.session import Unavailable
from cnnmath.cli import main as cli


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run_case(capsys, tmp_path, case, *arguments):
    """Runs a case from the command line; gives its rows and its summary, from the JSON, and what it printed."""
    path = tmp_path / "rows.json"
    assert cli(["bench", case, *arguments, "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["case"] == case and content["machine"]["cpus"] > 0
    return content["rows"], content["summary"], capsys.readouterr()


BRIEF = ("--rounds", "1", "--seconds", "0.001", "--threads", "1")


def test_peers(capsys, tmp_path):
    """Of the libraries that are installed; the answers of each were compared."""
    rows, summary, printed = run_case(
        capsys,
        tmp_path,
        "peers",
        "--networks",
        "lenet5",
        "--batch",
        "2",
        "--plot",
        str(tmp_path / "new"),
        *BRIEF,
        "--libraries",
        *installed(["cnnmath", "numpy", "onnxruntime", "openvino"]),
    )
    train, infer = ([row["library"] for row in rows if row["mode"] == mode] for mode in ("train", "infer"))
    assert train == ["cnnmath", "numpy"]
    assert infer == installed(["cnnmath", "numpy", "onnxruntime", "openvino"])
    assert all(row["error"] <= 2e-3 and row["ms"] > 0 and 0 < row["of peak"] < 2 for row in rows)
    assert [row["network"] for row in summary] == ["lenet5", "geometric mean"] * 2
    others = [row["time / first"] for row in rows if row["mode"] == "train"][1:]
    assert [row["times as fast"] for row in summary[:2]] == pytest.approx([min(others)] * 2)
    assert "times as fast" in printed.out
    for mode in ("train", "infer"):
        assert (tmp_path / "new" / f"peers-{mode}.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_networks_as_onnx(library, name):
    pytest.importorskip("onnx")
    pytest.importorskip(library)
    ours, theirs = (network_session(lib, name, "infer", 3, 1, 1).answers for lib in ("numpy", library))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(ours).max())


def test_unavailable_libraries_are_told(capsys):
    """The others go on without."""
    made = [
        Runner(label, "cnnmath.bench.backends:network_session", {"library": label}) for label in ("a", "b")
    ]
    session = {"answers": [1.0], "work": 1.0, "build": "b"}

    class Fake:
        def __init__(self, first):
            self.first = first

        def ask(self, **command):
            return self.first if "load" in command else {"seconds": 0.5}

    team = {"a": Fake({"unavailable": "needs g++"}), "b": Fake(session)}
    (row,) = race(made, team, 1, 0.1, 1e-3, pause=0)
    assert row["library"] == "b" and row["ms"] == 500
    assert "a: needs g++" in capsys.readouterr().err
    team["a"] = Fake(session | {"answers": [1.1]})
    with pytest.raises(WrongAnswer, match="b differs from a by 9"):
        race(made, team, 1, 0.1, 1e-3, pause=0)


def test_a_worker_that_dies_is_an_error(capfd):
    with Team(1) as team, pytest.raises(OSError, match="numpy: the process ended; its error stands above"):
        team["numpy"].ask(load="cnnmath.bench.nothing:here", arguments={})
    assert "No module named 'cnnmath.bench.nothing'" in capfd.readouterr().err


def test_processes_of_peers_load_nothing_of_ours():
    """Another OpenMP runtime, or its settings, would change what is measured."""
    with Team(1) as team:
        for library in ("numpy", "cnnmath"):
            arguments = {"library": library, "product": "257", "dtype": "f32", "threads": 1}
            team[library].ask(load="cnnmath.bench.gemm:gemm_session", arguments=arguments)
            mapped = Path(f"/proc/{team[library].process.pid}/maps").read_text()
            assert ("/cnnmath/_core" in mapped) == (library == "cnnmath")


def test_profile(capsys, tmp_path):
    rows, summary, _ = run_case(
        capsys, tmp_path, "profile", "--networks", "lenet5", "resnet20", "--modes", "train", "infer", "--batch", "2",
        "--steps", "1", "--threads", "1", "--plot", str(tmp_path),
    )  # fmt: skip
    assert [(row["network"], row["mode"]) for row in summary] == [
        (network, mode) for network in ("lenet5", "resnet20") for mode in ("train", "infer")
    ]
    train = [row for row in rows if (row["network"], row["mode"]) == ("resnet20", "train")]
    convolutions = [row for row in train if row["op"].startswith("conv2d")]
    assert len(convolutions) == 3 * 21 - 1  # three passes each, but the images need no gradient
    for row in rows:
        assert row["of peak"] == pytest.approx(row["GFLOP/s"] / summary[0]["peak GFLOP/s"])
        assert row["of triad"] == pytest.approx(row["GB/s"] / summary[0]["triad GB/s"])
    assert {row["pass"] for row in rows if row["mode"] == "infer"} == {"forward"}
    assert (tmp_path / "profile.png").stat().st_size > 1000


def test_learning(capsys, tmp_path, monkeypatch):
    """PyTorch and this package take the same steps from the same weights on the same batches."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    y = np.arange(96) % 10
    x = normal(96, 1, 28, 28) + 3 * rng.normal(size=(10, 1, 28, 28)).astype(np.float32)[y]
    monkeypatch.setattr(data, "mnist", lambda: ((x, y), (x[:48], y[:48])))
    rows, _, printed = run_case(
        capsys,
        tmp_path,
        "learning",
        "--epochs",
        "4",
        "--batch",
        "16",
        "--threads",
        "1",
        "--plot",
        str(tmp_path),
    )
    assert [row["library"] for row in rows] == ["cnnmath", "torch"]
    ours, theirs = (row["losses"] for row in rows)
    assert len(ours) == 24 and ours[-1] < 0.5 * ours[0]
    np.testing.assert_allclose(ours[:6], theirs[:6], rtol=1e-3)
    assert "largest difference of the first 5 losses" in printed.out
    assert (tmp_path / "learning.png").stat().st_size > 1000


LAYER_SPECS = {
    "conv": {
        "module": "Conv2d",
        "arguments": {"in_channels": 3, "out_channels": 8, "kernel_size": 3},
        "input": [2, 3, 9, 9],
    },
    "norm": {"module": "BatchNorm2d", "arguments": {"num_features": 5}, "input": [4, 5, 6, 6]},
    "pool": {"module": "MaxPool2d", "arguments": {"kernel_size": 2}, "input": [2, 5, 6, 6]},
    "loss": {"module": "CrossEntropyLoss", "arguments": {}, "input": [6, 11]},
    "linear": {"module": "Linear", "arguments": {"in_features": 7, "out_features": 5}, "input": [4, 7]},
}  # fmt: skip


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", LAYER_SPECS)
def test_single_layers_agree(name, backward, threads):
    """Each result of a layer is compared by its own size: output, gradient of the input, gradients of parameters."""
    threads(1)
    libraries = installed(["cnnmath", "numpy", "torch", "torch-channels_last"])
    sessions = [layer_session(library, LAYER_SPECS[name], backward, 1) for library in libraries]
    counts = [len(result) for result in sessions[0].answers]
    assert len(counts) == (2 + 2 * (name not in ("pool", "loss")) if backward else 1)
    for session in sessions[1:]:
        session.step()
        for ours, theirs in zip(sessions[0].answers, session.answers, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_random_layers():
    """The same for a seed and a number, within what was promised, and of all kinds."""
    layers = [cliffs.layer(3, number) for number in range(300)]
    assert layers[7] == cliffs.layer(3, 7) != cliffs.layer(4, 7)
    kinds = [cliffs.described(spec)["kind"] for spec in layers]
    assert min(kinds.count(kind) for kind in ("dense", "depthwise", "grouped")) > 15
    for spec in layers:
        a, shape = spec["arguments"], spec["input"]
        assert 1 <= a["in_channels"] <= 512 and 1 <= a["out_channels"] <= 512
        assert a["in_channels"] % a["groups"] == 0 == a["out_channels"] % a["groups"]
        assert max(shape[2:]) <= 224 and 1 <= min(a["kernel_size"]) <= max(a["kernel_size"]) <= 7
        assert 0 < spec["flop"] <= 3 * 4e9 and 4 * np.prod(shape) <= 30e6
    strides, dilations = ({spec["arguments"][key] for spec in layers} for key in ("stride", "dilation"))
    assert strides == dilations == {1, 2, 3}


def test_work_of_random_layers():
    """Counted by hand there, by the graph here."""
    for number in range(20):
        spec = cliffs.layer(0, number)
        spec["arguments"]["bias"] = False
        plan, _ = planned(spec, np.zeros(spec["input"], np.float32), backward=True)
        assert (
            sum(node.op.flops(node) for node in plan.graph.nodes if "conv2d" in node.op.name) == spec["flop"]
        )


def test_cliffs_leave_out_a_layer_that_ends_the_peer(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(cliffs, "MOST_FLOP", 1e6)

    def ending(runners, team, *rest):
        monkeypatch.undo()
        return team["torch-channels_last"].ask(load="os:_exit", arguments={"status": 3})

    monkeypatch.setattr(cliffs, "race", ending)
    rows, _, printed = run_case(capsys, tmp_path, "cliffs", "--count", "2", *BRIEF)
    assert [row["layer"] for row in rows] == [1]
    assert "layer 0 is left out: torch-channels_last: the process ended" in printed.err


def test_cliffs(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(cliffs, "MOST_FLOP", 1e6)
    rows, summary, _ = run_case(
        capsys,
        tmp_path,
        "cliffs",
        "--count",
        "4",
        "--first",
        "2",
        "--seed",
        "5",
        "--plot",
        str(tmp_path),
        *BRIEF,
    )
    assert [(row["seed"], row["layer"]) for row in rows] == [(5, number) for number in range(2, 6)]
    assert all(row["error"] < 1e-4 and row["ms"] > 0 for row in rows)
    assert all("first ratio" in row for row in rows if row["ratio"] > 1.5)
    assert summary[-1]["layers"] == 4 and summary[-1]["worst"] == max(row["ratio"] for row in rows)
    assert (tmp_path / "cliffs.png").stat().st_size > 1000
    part = (tmp_path / "rows.json").rename(tmp_path / "part.json")
    both, summary, _ = run_case(
        capsys, tmp_path, "cliffs", "--count", "0", "--parts", str(part), str(part), *BRIEF
    )
    assert both == rows * 2 and summary[-1]["layers"] == 8


def test_distribution_of_ratios():
    rows = [{"kind": "dense", "ratio": ratio} for ratio in (0.5, 1.0, 2.0)] + [
        {"kind": "grouped", "ratio": 1.05}
    ]
    dense, grouped, every = cliffs.distribution(rows)
    assert (dense["kind"], dense["layers"], dense["worst"], dense["mean"]) == (
        "dense",
        3,
        2.0,
        pytest.approx(1.0),
    )
    assert (grouped["<= 1.0x"], grouped["<= 1.1x"]) == (0, 1)
    assert (every["<= 0.5x"], every["<= 1.0x"], every["<= 1.5x"], every["median"]) == (0.25, 0.5, 0.75, 1.025)


def test_ops(capsys, tmp_path):
    rows, summary, _ = run_case(
        capsys,
        tmp_path,
        "ops",
        "--ops",
        "adaptive_avg_pool2d",
        "cross_entropy",
        "--plot",
        str(tmp_path),
        *BRIEF,
    )
    assert [(row["op"], row["pass"], row["library"]) for row in rows] == [
        (op, which, library)
        for which in ("forward", "forward and backward")
        for op in ("adaptive_avg_pool2d", "cross_entropy")
        for library in ("cnnmath", "numpy")
    ]
    assert [row["op"] for row in summary] == ["adaptive_avg_pool2d", "cross_entropy", "geometric mean"] * 2
    assert (tmp_path / "ops.png").stat().st_size > 1000


@pytest.mark.parametrize("op", sorted(OPS))
def test_every_op_agrees_with_numpy(op, threads):
    threads(2)
    spec = OPS[op] | {"input": [2, *OPS[op]["input"][1:]]}
    ours, theirs = (layer_session(library, spec, True, 2).answers for library in ("cnnmath", "numpy"))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("name", [*UNTUNED, "plain-5-12"])
def test_other_networks_agree_with_torch(name, threads):
    pytest.importorskip("torch")
    threads(2)
    ours, theirs = (
        network_session(library, name, "train", min(3, network(name).batch), 2, 1).answers
        for library in ("cnnmath", "torch")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_untuned_networks(capsys, tmp_path):
    rows, _, _ = run_case(
        capsys, tmp_path, "untuned", "--networks", "mlp", "resnet20@1", "--libraries", "cnnmath", "numpy",
        "--plot", str(tmp_path), *BRIEF,
    )  # fmt: skip
    assert [(row["network"], row["batch"]) for row in rows[::2]] == [("mlp", 128), ("resnet20@1", 1)]
    assert (tmp_path / "untuned-train.png").stat().st_size > 1000


def test_scaling(capsys, tmp_path):
    rows, _, _ = run_case(
        capsys, tmp_path, "scaling", "--axes", "batch", "channels", "--batch", "1",
        "--channels", "3", "--libraries", "cnnmath", "numpy", "--plot", str(tmp_path), *BRIEF,
    )  # fmt: skip
    points = [(row["axis"], row["threads"], row["batch"], row["channels"], row["size"]) for row in rows[::2]]
    assert points == [("batch", 1, 1, 32, 32), ("channels", 1, 32, 3, 32)]
    for row in rows:
        work = flops(f"plain-{row['channels']}-{row['size']}")[1] * row["batch"]
        assert row["GFLOP/s"] * row["ms"] == pytest.approx(work / 1e6)
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_a_compiler_that_fails(monkeypatch):
    torch = pytest.importorskip("torch")

    def compiled(model):
        def run(x):
            raise RuntimeError("\nno compiler here\nand more")

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(Unavailable, match=r"^torch.compile needs g\+\+ and failed: no compiler here$"):
        network_session("torch-compiled", "lenet5", "train", 2, torch.get_num_threads(), 1)


def test_memory(capsys, tmp_path):
    """What the plan says is what the process grows by."""
    rows, _, _ = run_case(
        capsys, tmp_path, "memory", "--networks", "mnist_cnn", "--batch", "32", "--libraries", "cnnmath", "numpy",
        "--threads", "1", "--plot", str(tmp_path),
    )  # fmt: skip
    ours, plain = rows
    assert ours["plan MB"] > 10 and ours["state MB"] == pytest.approx(4e-6 * 1_199_882)
    foretold = ours["plan MB"] + ours["state MB"]
    assert ours["growth / foretold"] == pytest.approx(ours["growth MB"] / foretold)
    assert 0.95 * foretold < ours["growth MB"] < 1.1 * foretold + 8.4  # 10 % and 8 MiB
    assert ours["peak MB"] >= ours["growth MB"] > 15 and plain["peak / first"] > 1
    assert (tmp_path / "memory.png").stat().st_size > 1000


def test_overheads(capsys, tmp_path):
    rows, _, _ = run_case(
        capsys, tmp_path, "overheads", "--libraries", "cnnmath", "--calls", "50", "--imports", "1",
        "--plot", str(tmp_path),
    )  # fmt: skip
    assert [row["case"] for row in rows] == ["relu", "conv2d", "train_step", "import"]
    assert all(0 < row["us"] < 1e5 for row in rows[:3])
    assert 0 < rows[3]["ms"] < 2e4 and rows[3]["NumPy's ms"] > 0


@pytest.mark.parametrize("case", ["relu", "conv2d", "train_step"])
def test_smallest_calls_agree_with_torch(case):
    pytest.importorskip("torch")
    ours, theirs = (overhead_session(library, case, 1).answers for library in ("cnnmath", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_a_case(capsys, monkeypatch):
    """A brief one, and what cases there are; by `python -m bench` from a checkout too."""
    ran = []
    monkeypatch.setattr("cnnmath.bench.steps.main", ran.append)
    assert cli(["bench"]) == 0
    assert ran == [BRIEF_CASE[1:]] and BRIEF_CASE[0] == "steps"
    assert all(f"  {case} " in capsys.readouterr().out for case in ["peers"])
    with pytest.raises(SystemExit) as stop:
        bench_main(["nothing"])
    assert stop.value.code == 2
