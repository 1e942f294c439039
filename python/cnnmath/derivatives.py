"""Derivatives of functions on arrays: vjp, grad, value_and_grad, gradcheck, and ops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .graph.autodiff import differentiate
from .graph.ir import Graph, Node, Op, Spec, Tensor, apply, as_tensor, current_graph, tracing
from .graph.variable import logical
from .planner import eager
from .planner.plan import Plan


def vjp(fn: Callable[..., Any], *arrays: Any) -> tuple[Any, Callable[[Any], tuple[np.ndarray | None, ...]]]:
    """Value of a function, and its vector-Jacobian product.

    For y = f(x1, ..., xn), `pullback(v)` gives v^T dy/dxi for each i.

    Args:
        fn: a function of arrays, built of cnnmath's ops; gives an array, or a tuple of arrays.
        arrays: its arguments.

    Returns:
        `(out, pullback)`. `pullback(cotangent)` takes an array of the shape of `out` (a tuple of them where `out` is
        one) and gives a tuple with one gradient for each argument: zeros where `out` does not depend on it, None for
        arguments that are not floating point. It raises RuntimeError where a parameter that it reads has changed.

    >>> import numpy as np, cnnmath
    >>> out, pullback = cnnmath.vjp(cnnmath.functional.relu, np.array([-1.0, 2.0]))
    >>> pullback(np.array([10.0, 10.0]))[0].tolist()
    [0.0, 10.0]
    """
    inputs = [np.asarray(a) for a in arrays]
    for a in inputs:
        eager.describe(a)
    graph = Graph()
    with tracing(graph):
        symbols = [eager.with_symbols(graph, a) for a in inputs]
        outputs, form = eager.flatten_outputs(fn(*symbols))
        num_forward = len(graph.nodes)
        cotangents = [
            graph.input(Spec(t.shape, t.dtype, t.order), "v") if t.dtype.kind == "f" else None
            for t in outputs
        ]
    floats = [t for t in symbols if t.dtype.kind == "f"]
    grads = dict(zip(floats, differentiate(graph, outputs, cotangents, floats)))

    # Two graphs: values that the backward one needs of the forward one become outputs there and inputs here.
    first, rest = graph.nodes[:num_forward], graph.nodes[num_forward:]
    computed = {t for node in first for t in node.outputs}
    wanted = [g for g in grads.values() if g is not None]
    read = [t for node in rest for t in node.inputs if t is not None] + wanted
    residuals = list(dict.fromkeys(t for t in read if t in computed))
    forward, backward = Graph(), Graph()
    forward.nodes, backward.nodes = first, rest
    forward.inputs = graph.inputs[: len(inputs)]
    forward.outputs = [*outputs, *residuals]
    forward.checks = graph.checks
    # Tensors of its own, that no node of the other graph computes.
    backward.inputs = list(graph.inputs)
    own = {t: backward.input(Spec(t.shape, t.dtype, t.order), t.name) for t in residuals}
    for node in rest:
        node.inputs = tuple(t if t is None else own.get(t, t) for t in node.inputs)
    backward.outputs = [own.get(g, g) for g in wanted]
    for part in (forward, backward):
        used = {t for node in part.nodes for t in node.inputs if t is not None} | set(part.outputs)
        part.variables = {v: t for v, t in graph.variables.items() if t in used}
        part.constants = {t: a for t, a in graph.constants.items() if t in used}
    values = Plan(forward)(*inputs)
    # The backward pass may come after the caller has changed an array: what it reads is kept as it is now.
    needed = set(read)
    saved = [np.array(x) if t in needed else x for x, t in zip(inputs, graph.inputs)]
    versions = [(v, v.version) for v in backward.variables]
    out, kept = values[: len(outputs)], values[len(outputs) :]
    plan: list[Plan] = []

    def pullback(cotangent: Any) -> tuple[np.ndarray | None, ...]:
        given = _cotangents(cotangent, outputs)
        for v, version in versions:
            if v.version != version:
                raise RuntimeError(
                    f"pullback: {v.name or 'a variable'} has changed since vjp ran; call vjp again"
                )
        if not plan:
            plan.append(Plan(backward))
        found = iter(plan[0](*saved, *given, *kept))
        result: list[np.ndarray | None] = []
        for symbol in symbols:
            if symbol.dtype.kind != "f":
                result.append(None)
            elif grads[symbol] is None:
                result.append(np.zeros(symbol.shape, symbol.dtype))
            else:
                result.append(next(found))
        return tuple(result)

    return form(out), pullback


def _cotangents(cotangent: Any, outputs: Sequence[Tensor]) -> list[np.ndarray]:
    """The cotangents of floating point outputs, checked."""
    parts = list(cotangent) if isinstance(cotangent, (tuple, list)) else [cotangent]
    if len(parts) != len(outputs):
        raise ValueError(f"pullback: expected {len(outputs)} cotangents, got {len(parts)}")
    given = []
    for t, v in zip(outputs, parts):
        if t.dtype.kind != "f":
            continue
        array = np.asarray(v) if isinstance(v, (np.ndarray, np.generic)) else np.asarray(v, dtype=t.dtype)
        if array.shape != t.shape:
            raise ValueError(f"pullback: expected a cotangent of shape {t.shape}, got {array.shape}")
        if array.dtype != t.dtype:
            raise TypeError(f"pullback: expected a cotangent of dtype {t.dtype}, got {array.dtype}")
        given.append(array)
    return given


class Gradients(dict[str, np.ndarray]):
    """Gradients by parameter name: a dict that also knows the parameters, so that an optimizer need not guess them."""

    def __init__(self, grads: Mapping[str, np.ndarray], named: Sequence[tuple[str, Any]]) -> None:
        super().__init__(grads)
        self.parameters: dict[str, Any] = dict(named)


def value_and_grad(fn: Callable[..., Any], wrt: Any = 0) -> Callable[..., tuple[Any, Any]]:
    """The function that gives the value of `fn` and its gradient.

    Args:
        fn: gives a scalar loss, or a tuple whose first element is the loss; the rest is handed through.
        wrt: the position of the argument to differentiate with respect to, or a tuple of positions; or a
            `cnnmath.nn.Module`, for the gradients of its trainable parameters.

    Returns:
        A function with the arguments of `fn` that gives `(value, grads)`. `grads` is an array (a tuple of arrays for
        several positions), or for a module a dict from parameter names to arrays.

    `fn` is traced once for each set of shapes, dtypes and states of the modules that it calls.
    """
    cache = eager.PlanCache(most=64)
    module = wrt if hasattr(wrt, "named_parameters") else None
    positions = () if module is not None else (wrt,) if isinstance(wrt, int) else tuple(wrt)

    def build(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = fn(*args, **kwargs)
        loss = value[0] if isinstance(value, tuple) else value
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(f"value_and_grad: expected a scalar loss, got {loss!r}; take its mean or sum")
        graph = loss.graph
        if module is not None:
            # One gradient for each parameter, the first name of a shared one.
            named = {p: name for name, p in reversed(list(module.named_parameters())) if p.trainable}
            targets = [graph.variable(p) for p in named]
        else:
            named = {}
            targets = [args[i] for i in positions]
        found = differentiate(graph, [loss], [graph.constant(1.0, loss.dtype)], targets)
        grads = [
            g if g is not None else graph.constant(np.zeros(t.shape, t.dtype)) for g, t in zip(found, targets)
        ]
        if module is not None:
            return value, dict(reversed(list(zip(named.values(), grads))))
        return value, grads[0] if isinstance(wrt, int) else tuple(grads)

    def run(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if module is None:
            for i in positions:
                if not isinstance(args[i], (np.ndarray, np.generic, float, Tensor)):
                    raise TypeError(
                        f"value_and_grad: argument {i} expects an array, got {type(args[i]).__name__}"
                    )
            args = tuple(np.asarray(a) if isinstance(a, float) else a for a in args)
            if current_graph() is not None:  # within a function that is being traced
                args = tuple(as_tensor(a) if i in positions else a for i, a in enumerate(args))
                return build(args, kwargs)  # type: ignore[no-any-return]
            return eager.call(lambda *a, **k: build(a, k), args, kwargs, None, cache)  # type: ignore[no-any-return]
        named = list(module.named_parameters())
        if current_graph() is not None:
            return build(args, kwargs)  # type: ignore[no-any-return]
        key = tuple([p.trainable for _, p in named])
        value, grads = eager.call(lambda *a, **k: build(a, k), args, kwargs, key, cache)
        return value, Gradients(grads, named)

    return run


def grad(fn: Callable[..., Any], wrt: Any = 0) -> Callable[..., Any]:
    """The function that gives the gradient of `fn`, a scalar function; see `value_and_grad`."""
    both = value_and_grad(fn, wrt)

    def run(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return run


def gradcheck(
    fn: Callable[..., Any], inputs: Sequence[Any], eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compares the gradients of `fn` with central finite differences, (f(x + eps) - f(x - eps)) / (2 eps).

    Every element of every float64 input is moved, and every output is weighted with fixed pseudo-random numbers.

    Args:
        fn: a function of the inputs; gives an array or a tuple of arrays.
        inputs: its arguments; float64 ones are checked, others are passed on.
        eps: the step.
        atol, rtol: an element agrees if |analytic - numeric| <= atol + rtol |numeric|.

    Returns:
        True. Raises ValueError with the place and both numbers where a gradient disagrees, TypeError where no input is
        float64 (float32 has too few digits for differences).
    """
    arrays = [np.array(a, order="C") for a in inputs]
    checked = [i for i, a in enumerate(arrays) if a.dtype == np.float64]
    if not checked:
        raise TypeError("gradcheck: expected at least one float64 input")
    out, pullback = vjp(fn, *arrays)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    rng = np.random.default_rng(0)
    weights = [
        rng.uniform(0.5, 1.5, np.shape(o)) if o.dtype.kind == "f" else np.zeros(np.shape(o)) for o in outs
    ]
    grads = pullback(tuple(weights) if isinstance(out, (tuple, list)) else weights[0])

    def value() -> float:
        result = fn(*arrays)
        parts = result if isinstance(result, (tuple, list)) else (result,)
        return float(sum(np.sum(w * p) for w, p in zip(weights, parts) if p.dtype.kind == "f"))

    for i in checked:
        array, analytic = arrays[i], np.asarray(grads[i])
        for at in np.ndindex(array.shape):
            x = array[at]
            array[at] = x + eps
            above = value()
            array[at] = x - eps
            below = value()
            array[at] = x
            numeric = (above - below) / (2 * eps)
            if not abs(analytic[at] - numeric) <= atol + rtol * abs(numeric):
                raise ValueError(
                    f"gradcheck: input {i} at {at}: the gradient is {analytic[at]:.10g}, "
                    f"finite differences give {numeric:.10g}"
                )
    return True


class _PythonOp(Op):
    """Calls a user's Function from the program."""

    python = True

    def __init__(self, owner: Function, backward: bool) -> None:
        self.owner = owner
        self.backward = backward
        self.name = type(owner).__name__ + ("_backward" if backward else "")

    def infer(self, *inputs: Tensor, count: int = 0) -> Any:
        if self.backward:
            return tuple(Spec(t.shape, t.dtype) for t in inputs[:count])
        shapes = self.owner.shape(*(t.shape for t in inputs))
        single = not shapes or isinstance(shapes[0], int)
        kind = next((t.dtype for t in inputs if t.dtype.kind == "f"), np.dtype(np.float32))
        return tuple(Spec(tuple(s), kind) for s in ((shapes,) if single else shapes))

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        graph = node.output.graph
        given = [
            g if g is not None else graph.constant(np.zeros(t.shape, t.dtype))
            for g, t in zip(grads, node.outputs)
        ]
        found = apply(_PythonOp(self.owner, True), *node.inputs, *given, count=len(node.inputs))
        return found if isinstance(found, tuple) else (found,)

    def lower(self, low: Any, node: Node) -> None:
        tensors = [t for t in (*node.inputs, *node.outputs) if t is not None]
        num_inputs = len(node.inputs)
        count = node.attrs.get("count", 0)

        def run(raw: list[np.ndarray]) -> None:
            views = [
                logical(np.frombuffer(r, t.dtype, t.size).reshape([t.shape[d] for d in t.order]), t.order)
                for r, t in zip(raw, tensors)
            ]
            ins = [np.array(v) for v in views[:num_inputs]]
            result = (
                self.owner.backward(ins[count:], *ins[:count]) if self.backward else self.owner.forward(*ins)
            )
            results = result if isinstance(result, tuple) else (result,)
            if len(results) != len(node.outputs):
                raise ValueError(f"{self.name}: expected {len(node.outputs)} results, got {len(results)}")
            for view, given, t in zip(views[num_inputs:], results, node.outputs):
                if given is None:
                    given = np.zeros(t.shape, t.dtype)
                if np.shape(given) != t.shape:
                    raise ValueError(
                        f"{self.name}: expected a result of shape {t.shape}, got {np.shape(given)}"
                    )
                view[...] = given

        low.python(run, tensors)


class Function:
    """An op of one's own, in plain NumPy, that takes part in tracing, training and differentiation like any other.

    Subclass it with three methods and call an instance:

    - `forward(*inputs)` gives an array (or a tuple of them);
    - `backward(grads, *inputs)` gives one gradient for each input (None for zeros); `grads` is a list with one array
      for each output;
    - `shape(*input_shapes)` gives the shape of the output (or a tuple of shapes).

    >>> import numpy as np, cnnmath
    >>> class Square(cnnmath.Function):
    ...     def shape(self, x): return x
    ...     def forward(self, x): return x * x
    ...     def backward(self, grads, x): return 2 * x * grads[0]
    >>> cnnmath.grad(lambda x: cnnmath.functional.sum(Square()(x)))(np.array([3.0])).tolist()
    [6.0]
    """

    def forward(self, *inputs: np.ndarray) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs forward(*inputs)")

    def backward(self, grads: list[np.ndarray], *inputs: np.ndarray) -> Any:
        raise ValueError(f"{type(self).__name__} has no backward(grads, *inputs)")

    def shape(self, *input_shapes: tuple[int, ...]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs shape(*input_shapes)")

    def __call__(self, *inputs: Any) -> Any:
        def body(*tensors: Any) -> Any:
            return apply(_PythonOp(self, False), *tensors)

        from .graph.ir import current_graph

        if current_graph() is not None:
            return body(*inputs)
        return eager.call(body, inputs, {}, key=self)
