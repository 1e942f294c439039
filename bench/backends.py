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

from .networks import NETWORKS, data, flops, initial_state
from .session import Session

Array = npt.NDArray[Any]

LEARNING_RATE, MOMENTUM = 1e-3, 0.9


def network_session(backend: str, name: str, mode: str, batch: int, threads: int) -> Session:
    train_step, infer, build = BACKENDS[backend](name, batch, mode, threads)
    work = float(flops(name)[mode == "train"] * batch)
    if mode == "train":
        return Session(train_step, [train_step() for _ in range(3)], work, build)
    return Session(infer, [float(value) for value in infer().ravel()], work, build)


Steps = tuple[Callable[[], float], Callable[[], Array], str]


def _numpy(name: str, batch: int, mode: str, threads: int) -> Steps:
    from . import numpy_cnn

    model = NETWORKS[name].build(numpy_cnn)
    model.load_state_dict(initial_state(name))
    x, target = data(name, batch)
    trainer = numpy_cnn.Trainer(model, LEARNING_RATE, MOMENTUM)
    model.train(mode == "train")
    return lambda: trainer.train_step(x, target), lambda: trainer.predict(x), f"numpy {np.__version__}"


def _cnnmath(name: str, batch: int, mode: str, threads: int) -> Steps:
    import cnnmath
    from cnnmath import losses, nn, optim

    from .kernel import build

    cnnmath.set_num_threads(threads)
    model = NETWORKS[name].build(nn)
    state = model.state_dict()
    state.update(initial_state(name))
    model.load_state_dict(state)
    x, target = data(name, batch)
    model.train(mode == "train")

    def infer() -> Array:
        return np.asarray(model(x))

    if mode == "infer":
        return _no_training, infer, build()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    trainer = cnnmath.Trainer(model, optimizer, losses.CrossEntropyLoss())
    return lambda: float(trainer.train_step(x, target)), infer, build()


def _no_training() -> float:
    raise RuntimeError("this session only infers")


def _torch(
    name: str, batch: int, mode: str, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Steps:
    import torch

    torch.set_num_threads(threads)
    model = NETWORKS[name].build(torch.nn)
    state = model.state_dict()
    state.update({key: torch.from_numpy(value) for key, value in initial_state(name).items()})
    model.load_state_dict(state)
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
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    def infer() -> Array:
        with torch.inference_mode():
            return np.asarray(run(x).numpy())

    return train_step, infer, f"torch {torch.__version__}"


BACKENDS: dict[str, Callable[[str, int, str, int], Steps]] = {
    "cnnmath": _cnnmath,
    "numpy": _numpy,
    "torch": _torch,
    "torch-channels_last": partial(_torch, channels_last=True),
    "torch-compiled": partial(_torch, compiled=True),
}
