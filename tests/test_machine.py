"""The machine: instruction sets and thread counts, as detected and as forced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import cnnmath
from cnnmath import _core

Run = Callable[..., "subprocess.CompletedProcess[str]"]

COUNT = "import cnnmath; print(cnnmath.get_num_threads())"


def test_build_config_tells_all() -> None:
    config = cnnmath.build_config()
    assert set(config) >= {
        "version", "compiler", "isas_built", "isas_available", "isa", "num_cpus", "num_threads",
    }  # fmt: skip
    assert "baseline" in config["isas_available"]
    assert set(config["isas_available"]) <= set(config["isas_built"])
    assert config["isa"] in config["isas_available"]
    assert config["num_threads"] == cnnmath.get_num_threads()


def test_forced_isa_runs(isa: str, run_python: Run) -> None:
    """The forced instruction set is in use, and computes."""
    out = run_python(
        "import numpy as np, cnnmath; print(cnnmath.build_config()['isa'],"
        " cnnmath.functional.relu(np.arange(-3.0, 4.0)).tolist())",
        CNNMATH_ISA=isa,
    ).stdout
    assert out.strip() == f"{isa} [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]"


def test_best_isa_is_the_default(run_python: Run) -> None:
    code = "import cnnmath; print(cnnmath.build_config()['isa'])"
    best = cnnmath.build_config()["isas_available"][0]
    assert run_python(code).stdout.strip() == best
    assert run_python(code, CNNMATH_ISA="").stdout.strip() == best


def test_unknown_isa_is_an_import_error(run_python: Run) -> None:
    done = run_python("import cnnmath", check=False, CNNMATH_ISA="sse9")
    assert done.returncode == 1
    assert "ImportError: CNNMATH_ISA=sse9: no such instruction set in this build (it has " in done.stderr
    assert "baseline)" in done.stderr


def test_isa_that_the_machine_lacks_is_an_import_error(run_python: Run) -> None:
    config = cnnmath.build_config()
    for isa in set(config["isas_built"]) - set(config["isas_available"]):
        done = run_python("import cnnmath", check=False, CNNMATH_ISA=isa)
        assert done.returncode == 1
        assert f"ImportError: CNNMATH_ISA={isa}: this machine lacks that instruction set" in done.stderr


@pytest.mark.parametrize(
    ("line", "cpus"),
    [
        ("max 100000", 0),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("100000 100000\n", 1),
        ("1000 100000", 1),
        ("", 0),
        ("nonsense", 0),
        ("100000", 0),
        ("100000 0", 0),
        ("-1 100000", 0),
    ],
)
def test_quota(line: str, cpus: int) -> None:
    assert _core.cpus_of_quota(line) == cpus


QUOTAS = {
    "none": ("0::/\n", {}, 0),
    "no limit": ("0::/a\n", {"a/cpu.max": "max 100000\n", "cpu.max": "max 100000\n"}, 0),
    "own": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "max 100000\n"}, 3),
    "of the parent": ("0::/a/b\n", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "150000 100000\n"}, 2),
    "of the root": ("0::/a\n", {"cpu.max": "100000 100000\n"}, 1),
    "a container's, by the path of its host": ("0::/docker/0123\n", {"cpu.max": "400000 100000\n"}, 4),
    "above its namespace": ("0::/../a\n", {"cpu.max": "200000 100000\n"}, 2),
    "version 1": (
        "9:name=systemd:/s\n3:cpuset:/\n2:cpu,cpuacct:/a\n0::/s\n",
        {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        3,
    ),
    "version 1, no limit": (
        "1:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        0,
    ),
    "version 1 in a container": (
        "4:cpuacct,cpu:/docker/0123\n",
        {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "nonsense": ("nonsense\n:\n::\n0::\n1:cpu:x\n", {"cpu.max": "\n"}, 0),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_of_cgroups(name: str, tmp_path: Path) -> None:
    membership, files, cpus = QUOTAS[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (tmp_path / "membership").write_text(membership)
    assert _core.quota_cpus(str(tmp_path / "membership"), str(tmp_path)) == cpus
    assert _core.quota_cpus(str(tmp_path / "missing"), str(tmp_path)) == 0


def test_omp_num_threads(run_python: Run) -> None:
    assert run_python(COUNT, OMP_NUM_THREADS="3").stdout.strip() == "3"
    assert run_python(COUNT, OMP_NUM_THREADS="5,2").stdout.strip() == "5"  # a list by levels of nesting
    default = run_python(COUNT).stdout
    for strange in ("0", "-2", "many", ""):
        assert run_python(COUNT, OMP_NUM_THREADS=strange).stdout == default


def test_affinity(run_python: Run) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    for n in {1, len(cpus)}:
        pin = f"import os; os.sched_setaffinity(0, {cpus[:n]});"
        assert 1 <= int(run_python(pin + COUNT).stdout) <= n
        assert int(run_python(pin + "import cnnmath; print(cnnmath.build_config()['num_cpus'])").stdout) == n
    pin = f"import os; os.sched_setaffinity(0, {cpus[:1]});"
    assert int(run_python(pin + COUNT, OMP_NUM_THREADS="4").stdout) == 4  # what is asked for is honoured


def test_set_num_threads(threads: Callable[[int], None]) -> None:
    threads(7)
    assert cnnmath.get_num_threads() == 7
    for wrong in (0, -1, 1025):
        with pytest.raises(ValueError, match=f"set_num_threads: expected 1 to 1024 threads, got {wrong}"):
            threads(wrong)
    for kind in (True, 2.0, "2", None):
        with pytest.raises(TypeError, match="set_num_threads: expected an int, got"):
            threads(kind)  # type: ignore[arg-type]
    assert cnnmath.get_num_threads() == 7


def test_manual_seed_takes_whole_numbers() -> None:
    with pytest.raises(TypeError, match="manual_seed: expected an int, got float"):
        cnnmath.manual_seed(1.5)  # type: ignore[arg-type]
