"""Fixtures that every test may use: seeded randomness, threads, instruction sets; Hypothesis' profiles."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Generator, Iterator

import numpy as np
import pytest

with contextlib.suppress(ImportError):
    from hypothesis import settings

    # "default" draws the same examples in every run; HYPOTHESIS_PROFILE=explore draws new ones and prints
    # what reproduces a failure; "brief" is for builds that are many times slower.
    settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
    settings.register_profile("explore", deadline=None, derandomize=False, max_examples=1000, print_blob=True)
    settings.register_profile("brief", deadline=None, derandomize=True, max_examples=10)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of the session: CNNMATH_TEST_SEED, or 0."""
    return int(os.environ.get("CNNMATH_TEST_SEED", "0"))


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own: it depends on the session's seed and the test's name alone."""
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """`threads(n)` sets the thread count; the count from before is restored after the test."""
    import cnnmath

    before = cnnmath.get_num_threads()
    yield cnnmath.set_num_threads
    cnnmath.set_num_threads(before)


@pytest.fixture(scope="module")
def direct_convolutions() -> Iterator[None]:
    """Convolutions are the plain sums, for tests that expect their bits."""
    import cnnmath

    cnnmath.set_conv_algorithm("direct")
    yield
    cnnmath.set_conv_algorithm("auto")


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_python(code, NAME=value, ...)` runs Python code in a fresh interpreter; gives the completed process.

    For what depends on the environment, or might take the process down. Its environment is this one's without what
    cnnmath reads. It must succeed, unless `check=False`.
    """

    def run(
        code: str, *, check: bool = True, timeout: float = 120, **env: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("CNNMATH_ISA", "OMP_NUM_THREADS")}
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code],
            env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture
def run_on(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[[str, str], str]:
    """`run_on(isa, code)` runs Python code in a fresh interpreter on one instruction set; gives its output.

    The instruction set is chosen at import. A test that takes the argument `isa` runs once on each that
    the machine has.
    """

    def run(isa: str, code: str) -> str:
        check = f"import cnnmath; assert cnnmath.build_config()['isa'] == {isa!r}\n"
        return run_python(check + code, CNNMATH_ISA=isa).stdout

    return run


@pytest.fixture
def python_handles_interrupts() -> Iterator[None]:
    """Python's own handler of Ctrl-C: a shell starts what it runs in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail where a test was skipped")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter is not None else 0
    if session.config.getoption("--no-skips") and skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"\n{skipped} skipped, and --no-skips was given", red=True)
    yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        import cnnmath

        metafunc.parametrize("isa", cnnmath.build_config()["isas_available"])


def pytest_report_header() -> str:
    import cnnmath

    config = cnnmath.build_config()
    assert config["isa"] == os.environ.get("CNNMATH_ISA", config["isa"])  # the forced one, if any
    return f"cnnmath: {config['isa']}, {config['num_threads']} threads, {config['compiler']}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("seed", f"CNNMATH_TEST_SEED={os.environ.get('CNNMATH_TEST_SEED', '0')}"))
    return report
