"""What a traced value has not, and what to take in its place."""

from __future__ import annotations

_FUNCTIONS = (
    "permute", "relu", "sigmoid", "tanh", "softmax", "log_softmax", "dropout", "add", "sub", "mul", "div", "neg",
)  # fmt: skip
_OPS = {
    **{name: name for name in _FUNCTIONS},
    **dict.fromkeys(("T", "mT", "transpose", "swapaxes", "moveaxis", "t"), "permute"),
    **dict.fromkeys(("unsqueeze", "squeeze", "ravel", "expand_dims"), "reshape"),
    **dict.fromkeys(("matmul", "mm", "dot", "bmm"), "linear"),
}
_OWN = (
    "max", "min", "argmax", "argmin", "exp", "log", "sqrt", "pow", "abs", "clip", "clamp", "var", "std", "prod",
    "cumsum", "round", "sign", "sin", "cos", "norm", "any", "all", "sort", "topk",
)  # fmt: skip
_VALUES = ("numpy", "item", "tolist", "data", "detach", "cpu", "copy", "clone")
_CASTS = ("astype", "float", "double", "half", "int", "long", "to", "type")
_GRADIENTS = ("backward", "grad", "requires_grad", "retain_grad")


def of_tensor(name: str) -> str:
    """The message of an AttributeError."""
    text = f"a traced value has no {name!r}"
    if name in _OPS:
        return f"{text}: use cnnmath.functional.{_OPS[name]}"
    if name in _OWN:
        return (
            f"{text}: use the ops of cnnmath.functional, or a cnnmath.Function for an op of your own in NumPy"
        )
    if name in _VALUES:
        return f"{text}, as it has no values yet: return it from the function, and use the array that the call gives"
    if name in _CASTS:
        return f"{text}: its dtype is that of the arrays, cast them before the call"
    if name in _GRADIENTS:
        return f"{text}: gradients are given by cnnmath.grad, value_and_grad and vjp"
    return text
