"""Loss curves and accuracy on real data against PyTorch's, from the same weights and the same batches.

`cnnmath bench learning --network lenet5 --epochs 3` (MNIST) or `--network resnet20` (CIFAR-10); the data sets are
found through CNNMATH_DATA. Prints both losses of the first steps, the largest difference among them, and both test
accuracies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arguments import whole
from .backends import load_into_torch
from .networks import initial_state, network
from .race import installed, not_installed
from .report import Row, output_arguments, report

Array = npt.NDArray[Any]
DATA = {"lenet5": "mnist", "mnist_cnn": "mnist", "vgg_small": "cifar10", "resnet20": "cifar10"}
LR, MOMENTUM, FIRST_STEPS = 0.05, 0.9, 5


def batches(n: int, batch: int, epoch: int) -> Iterator[Array]:
    order = np.random.default_rng(epoch).permutation(n)
    for at in range(0, n - batch + 1, batch):
        yield order[at : at + batch]


class Cnnmath:
    def __init__(self, name: str, threads: int) -> None:
        from .. import losses, nn, optim
        from ..machine import set_num_threads
        from ..training import Trainer

        set_num_threads(threads)
        self.model = network(name).build(nn)
        self.model.load_state_dict(initial_state(self.model.state_dict()))
        self.optimizer = optim.SGD(self.model, lr=LR, momentum=MOMENTUM)
        self.trainer = Trainer(self.model, self.optimizer, losses.CrossEntropyLoss())

    def step(self, x: Array, y: Array, lr: float) -> float:
        self.optimizer.param_groups[0]["lr"] = lr
        return self.trainer.train_step(x, y)

    def accuracy(self, x: Array, y: Array) -> float:
        return float(np.mean(self.trainer.predict(x).argmax(1) == y))


class Torch:
    def __init__(self, name: str, threads: int) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        self.model = network(name).build(torch.nn)
        load_into_torch(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)

    def step(self, x: Array, y: Array, lr: float) -> float:
        torch = self.torch
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def accuracy(self, x: Array, y: Array) -> float:
        torch = self.torch
        self.model.eval()
        with torch.inference_mode():
            parts = [
                self.model(torch.from_numpy(x[i : i + 500])).argmax(1).numpy() for i in range(0, len(x), 500)
            ]
        self.model.train()
        return float(np.mean(np.concatenate(parts) == y))


def curve(make: Callable[[], Any], args: argparse.Namespace, train: Any, test: Any) -> Row:
    learner = make()
    x, y = train
    steps = args.epochs * (len(x) // args.batch)
    losses: list[float] = []
    start = time.perf_counter()
    for epoch in range(args.epochs):
        for rows in batches(len(x), args.batch, epoch):
            lr = LR * 0.5 * (1 + np.cos(np.pi * len(losses) / steps))
            losses.append(learner.step(np.ascontiguousarray(x[rows]), y[rows], float(lr)))
    seconds = time.perf_counter() - start
    row: Row = {
        "library": type(learner).__name__.lower(),
        "steps": steps,
        "seconds": seconds,
        "losses": losses,
    }
    row |= {f"loss {i + 1}": round(losses[i], 7) for i in range(FIRST_STEPS)}
    row |= {
        "last 100": round(float(np.mean(losses[-100:])), 5),
        "test accuracy": f"{learner.accuracy(*test):.4f}",
    }
    return row


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench learning", description=__doc__)
    parser.add_argument("--network", choices=sorted(DATA), default="lenet5")
    parser.add_argument("--epochs", type=whole(1), default=2)
    parser.add_argument("--batch", type=whole(1), default=128)
    parser.add_argument("--threads", type=whole(1, 1024), default=2)
    output_arguments(parser)
    args = parser.parse_args(arguments)
    if not installed(["torch"]):
        raise ImportError(f"learning compares with PyTorch; {not_installed(['torch'])}")
    from .. import data

    train, test = ((x - x.mean(), y) for x, y in getattr(data, DATA[args.network])())
    steps = args.epochs * (len(train[0]) // args.batch)
    if steps < FIRST_STEPS:
        raise ValueError(
            f"expected at least {FIRST_STEPS} steps, got {steps}: {len(train[0])} images, --batch {args.batch}, "
            f"--epochs {args.epochs}"
        )
    makers = [lambda: Cnnmath(args.network, args.threads), lambda: Torch(args.network, args.threads)]
    rows = [curve(make, args, train, test) for make in makers]
    worst = max(abs(rows[0][f"loss {i + 1}"] - rows[1][f"loss {i + 1}"]) for i in range(FIRST_STEPS))
    shown = [{key: value for key, value in row.items() if key != "losses"} for row in rows]
    report("learning", rows, args.threads, args, pictures={"learning": draw}, shown=shown)
    print(f"largest difference of the first {FIRST_STEPS} losses: {worst:.2g}")


def draw(rows: list[Row]) -> Any:
    """The losses of both, each the mean over a hundredth of the steps."""
    from ..viz.canvas import new_figure

    figure = new_figure(6, 4)
    panel = figure.add_subplot()
    width = max(1, rows[0]["steps"] // 100)
    for row in rows:
        parts = [row["losses"][at : at + width] for at in range(0, row["steps"], width)]
        ends = [min(at + width, row["steps"]) for at in range(0, row["steps"], width)]
        panel.plot(ends, [np.mean(part) for part in parts], label=row["library"])
    panel.set_xlabel("step")
    panel.set_ylabel("training loss")
    panel.set_yscale("log")
    panel.grid(alpha=0.3)
    panel.legend()
    return figure
