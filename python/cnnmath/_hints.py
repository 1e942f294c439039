"""Names of PyTorch, Keras and NumPy that are another thing here: what an AttributeError says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

LOSSES = "losses are in cnnmath.losses"
STEP = "the loop is: loss, grads = cnnmath.value_and_grad(fn, model)(x, y); optimizer.step(grads)"
_TRAINER = "models are trained by cnnmath.Trainer(model, optimizer, loss, metrics=...)"
OF_MODELS = {
    **dict.fromkeys(
        ("to", "cpu", "cuda"), "there are CPUs alone; model.double() and float() change the dtype"
    ),
    **dict.fromkeys(("compile", "fit", "evaluate", "predict", "train_on_batch"), _TRAINER),
    **dict.fromkeys(("zero_grad", "backward"), STEP),
    "save": "cnnmath.save(model, path)",
    "requires_grad_": "model.freeze() and unfreeze()",
    "half": "there are float32 and float64",
}


def missing(module: str, hints: Mapping[str, str]) -> Callable[[str], NoReturn]:
    """The `__getattr__` of a module without such names."""

    def __getattr__(name: str) -> NoReturn:
        raise AttributeError(f"module {module!r} has no attribute {name!r}{told(hints, name)}")

    return __getattr__


def told(hints: Mapping[str, str], name: str) -> str:
    """The end of the message: ": ..." where there is a hint."""
    return f": {hints[name]}" if name in hints else ""
