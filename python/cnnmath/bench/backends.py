"""One network in one library, ready to train or to infer.

Every session starts from the same weights and sees the same batch. The answers are the losses of the first
three training steps, or the logits of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .networks import data, initial_state, network
from .session import Session, Unavailable

Array = npt.NDArray[Any]

LEARNING_RATE, MOMENTUM = 1e-3, 0.9


def network_session(library: str, name: str, mode: str, batch: int, threads: int, work: float) -> Session:
    train_step, infer, build = BACKENDS[library](name, batch, mode, threads)
    if mode == "train":
        return Session(train_step, [train_step() for _ in range(3)], work, build)
    return Session(infer, [float(value) for value in infer().ravel()], work, build)


Steps = tuple[Callable[[], float], Callable[[], Array], str]


def _numpy(name: str, batch: int, mode: str, threads: int) -> Steps:
    from . import numpy_cnn

    model = network(name).build(numpy_cnn)
    model.load_state_dict(initial_state(model.state_dict()))
    x, target = data(name, batch)
    trainer = numpy_cnn.Trainer(model, LEARNING_RATE, MOMENTUM)
    model.train(mode == "train")
    return lambda: trainer.train_step(x, target), lambda: trainer.predict(x), f"numpy {np.__version__}"


def cnnmath_trainer(name: str) -> Any:
    """A Trainer of the network with its initial weights."""
    from .. import losses, nn, optim
    from ..training import Trainer

    model = network(name).build(nn)
    model.load_state_dict(initial_state(model.state_dict()))
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    return Trainer(model, optimizer, losses.CrossEntropyLoss())


def _cnnmath(name: str, batch: int, mode: str, threads: int) -> Steps:
    from ..machine import set_num_threads
    from .kernel import build

    set_num_threads(threads)
    trainer = cnnmath_trainer(name)
    trainer.model.train(mode == "train")
    x, target = data(name, batch)
    return lambda: float(trainer.train_step(x, target)), lambda: np.asarray(trainer.model(x)), build()


def _no_training() -> float:
    raise RuntimeError("this session only infers")


def load_into_torch(model: Any) -> None:
    """The initial weights into a module of PyTorch."""
    import torch

    state = initial_state({key: value.numpy() for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})


def _torch(
    name: str, batch: int, mode: str, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Steps:
    import torch

    torch.set_num_threads(threads)
    model = network(name).build(torch.nn)
    load_into_torch(model)
    images, classes = data(name, batch)
    x, target = torch.from_numpy(images), torch.from_numpy(classes)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    model.train(mode == "train")
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    run = torch.compile(model) if compiled else model

    def train_step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(x), target)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def infer() -> Array:
        with torch.inference_mode():
            return np.asarray(run(x).numpy())

    if compiled:
        try:  # what it compiles is found out at the first call; the losses of three further steps are the answers
            with torch.inference_mode(mode == "infer"):
                run(x)
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise Unavailable(f"torch.compile needs g++ and failed: {reason}") from error
        load_into_torch(model)  # running statistics have moved
    return train_step, infer, f"torch {torch.__version__}"


def _onnxruntime(name: str, batch: int, mode: str, threads: int) -> Steps:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_onnx_model(name, batch), options, ["CPUExecutionProvider"])
    x, _ = data(name, batch)
    return (
        _no_training,
        lambda: np.asarray(session.run(None, {"x": x})[0]),
        f"onnxruntime {onnxruntime.__version__}",
    )


def _openvino(name: str, batch: int, mode: str, threads: int) -> Steps:
    import openvino

    core = openvino.Core()
    model = core.read_model(_onnx_model(name, batch))
    how = {
        "INFERENCE_PRECISION_HINT": "f32",  # by default it rounds to bfloat16 where the machine has it
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
    }
    request = core.compile_model(model, "CPU", how).create_infer_request()
    x, _ = data(name, batch)
    return (
        _no_training,
        lambda: np.array(request.infer({0: x}, share_inputs=True)[0]),
        f"openvino {openvino.__version__.split('-')[0]}",
    )


def _onnx_model(name: str, batch: int) -> bytes:
    try:
        from .onnx_model import onnx_model
    except ImportError as error:
        raise Unavailable(
            f'models for it are made with onnx: pip install "cnnmath[bench]" ({error})'
        ) from error
    return onnx_model(name, batch)


BACKENDS: dict[str, Callable[[str, int, str, int], Steps]] = {
    "cnnmath": _cnnmath,
    "numpy": _numpy,
    "torch": _torch,
    "torch-channels_last": partial(_torch, channels_last=True),
    "torch-compiled": partial(_torch, compiled=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
INFERENCE_ONLY = {"onnxruntime", "openvino"}
