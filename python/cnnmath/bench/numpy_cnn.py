"""A convolutional network in NumPy as a good NumPy user writes it: what the C++ core is measured against.

Activations are NHWC. A convolution is im2col and a matrix product, a few images at a time so that the columns
stay in cache. Gradients with respect to the input of a stride-1 convolution are the convolution with the
kernel turned around. Buffers are made once. The layers bear PyTorch's names, and their parameters PyTorch's
names and shapes from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

Array = npt.NDArray[Any]

CACHE_BYTES = 2 << 20  # of columns at a time


class Layer:
    """forward keeps what backward needs; backward fills `grads` and returns the gradient of the input."""

    def __init__(self) -> None:
        self.training = True
        self.needs_grad_input = True
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self._scratch: dict[str, Array] = {}

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, grad: Array) -> Array:
        raise NotImplementedError

    def flops(self) -> int:
        """Multiplications and additions of the last forward pass, in matrix products only."""
        return 0

    def children(self) -> list[tuple[str, Layer]]:
        return []

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        yield prefix, self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}{name}.")

    def train(self, mode: bool = True) -> None:
        for _, layer in self.named_layers():
            layer.training = mode

    def state_dict(self) -> dict[str, Array]:
        return {
            prefix + name: layer.outside(name, value).copy()
            for prefix, layer in self.named_layers()
            for name, value in (*layer.params.items(), *layer.buffers.items())
        }

    def load_state_dict(self, state: dict[str, Array]) -> None:
        for prefix, layer in self.named_layers():
            for values in (layer.params, layer.buffers):
                for name, value in values.items():
                    layer.outside(name, value)[...] = state[prefix + name]

    def outside(self, name: str, value: Array) -> Array:
        """The view of a parameter in PyTorch's shape."""
        return value

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """A buffer that is made once and zero at first."""
        kept = self._scratch.get(name)
        if kept is None or kept.shape != shape:
            kept = self._scratch[name] = np.zeros(shape, np.float32)
        return kept


class Conv2d(Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.k, self.stride, self.padding = kernel_size, stride, padding
        self.inputs, self.outputs = in_channels, out_channels
        self.params["weight"] = np.zeros((kernel_size, kernel_size, in_channels, out_channels), np.float32)
        if bias:
            self.params["bias"] = np.zeros(out_channels, np.float32)

    def outside(self, name: str, value: Array) -> Array:
        return value.transpose(3, 2, 0, 1) if name == "weight" else value

    def flops(self) -> int:
        return 2 * math.prod(self.y_shape[:3]) * self.params["weight"].size

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        self.x = self._padded("x", x, self.padding)
        weight = self.params["weight"]
        y = self._convolve(self.x, weight, self.stride)
        if "bias" in self.params:
            y += self.params["bias"]
        self.y_shape = y.shape
        return y

    def backward(self, grad: Array) -> Array:
        if "bias" in self.params:
            rows = grad.reshape(-1, self.outputs)
            self.grads["bias"] = np.ones(len(rows), np.float32) @ rows
        self.grads["weight"] = self.grad_weight(grad)
        return self.grad_input(grad) if self.needs_grad_input else grad

    def grad_input(self, grad: Array) -> Array:
        weight = self.params["weight"]
        if self.stride > 1:
            return self._scatter(grad, weight)
        turned = np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))
        return self._convolve(self._padded("grad", grad, self.k - 1 - self.padding), turned, 1)

    def grad_weight(self, grad: Array) -> Array:
        total = np.zeros((self.k * self.k * self.inputs, self.outputs), np.float32)
        for block, columns in self._columns(self.x, (grad.shape[1], grad.shape[2]), self.stride):
            total += columns.T @ grad[block].reshape(-1, self.outputs)
        return total.reshape(self.params["weight"].shape)

    def _padded(self, name: str, x: Array, p: int) -> Array:
        if p == 0:
            return x
        n, height, width, c = x.shape
        buffer = self.scratch(name, (n, height + 2 * p, width + 2 * p, c))
        buffer[:, p:-p, p:-p] = x
        return buffer

    def _columns(self, x: Array, out: tuple[int, int], stride: int) -> Iterator[tuple[slice, Array]]:
        """Blocks of images as matrices of patches: a row is a patch of k·k·C numbers."""
        (n, _, _, c), k, (height, width) = x.shape, self.k, out
        if k == 1:
            yield slice(0, n), x[:, ::stride, ::stride].reshape(-1, c)
            return
        # The k·C numbers of one row of a patch lie side by side. Strides are written out because NumPy leaves
        # those of a dimension of length 1 (one channel) undefined.
        of_number = x.itemsize
        of_pixel = c * of_number
        of_row = x.shape[2] * of_pixel
        of_image = x.shape[1] * of_row
        patches = as_strided(
            x,
            (n, height, width, k, k * c),
            (of_image, stride * of_row, stride * of_pixel, of_row, of_number),
            writeable=False,
        )
        step = max(1, CACHE_BYTES // (4 * height * width * k * k * c))
        columns = self.scratch(f"columns of {c}", (min(step, n), height, width, k, k * c))
        for first in range(0, n, step):
            block = slice(first, min(first + step, n))
            part = columns[: block.stop - first]
            np.copyto(part, patches[block])
            yield block, part.reshape(-1, k * k * c)

    def _convolve(self, x: Array, weight: Array, stride: int) -> Array:
        out = (x.shape[1] - self.k) // stride + 1, (x.shape[2] - self.k) // stride + 1
        y = np.empty((x.shape[0], *out, weight.shape[-1]), np.float32)
        matrix = weight.reshape(-1, weight.shape[-1])
        for block, columns in self._columns(x, out, stride):
            np.matmul(columns, matrix, out=y[block].reshape(-1, matrix.shape[1]))
        return y

    def _scatter(self, grad: Array, weight: Array) -> Array:
        n, height, width, _ = grad.shape
        grad_x = np.zeros((n, *self.x.shape[1:]), np.float32)
        s = self.stride
        for i in range(self.k):
            for j in range(self.k):
                part = (grad.reshape(-1, self.outputs) @ weight[i, j].T).reshape(n, height, width, -1)
                grad_x[:, i : i + s * (height - 1) + 1 : s, j : j + s * (width - 1) + 1 : s] += part
        p = self.padding
        return grad_x[:, p : p + self.x_shape[1], p : p + self.x_shape[2]]


class Linear(Layer):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.params["weight"] = np.zeros((out_features, in_features), np.float32)
        self.params["bias"] = np.zeros(out_features, np.float32)

    def flops(self) -> int:
        return 2 * len(self.x) * self.params["weight"].size

    def forward(self, x: Array) -> Array:
        self.x = x
        y = x @ self.params["weight"].T
        y += self.params["bias"]
        return y

    def backward(self, grad: Array) -> Array:
        self.grads["weight"] = grad.T @ self.x
        self.grads["bias"] = grad.sum(0)
        return grad @ self.params["weight"]


class BatchNorm2d(Layer):
    momentum, eps = np.float32(0.1), np.float32(1e-5)

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.params["weight"], self.params["bias"] = (
            np.ones(num_features, np.float32),
            np.zeros(num_features, np.float32),
        )
        self.buffers["running_mean"] = np.zeros(num_features, np.float32)
        self.buffers["running_var"] = np.ones(num_features, np.float32)

    def forward(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        n = len(rows)
        if not self.training:
            scale = self.params["weight"] / np.sqrt(self.buffers["running_var"] + self.eps)
            y = x * scale
            y += self.params["bias"] - self.buffers["running_mean"] * scale
            return y
        ones = np.full(n, 1 / n, np.float32)
        mean: Array = ones @ rows
        x_hat = rows - mean
        var: Array = np.einsum("pc,pc->c", x_hat, x_hat) / np.float32(n)
        self.deviation = np.sqrt(var + self.eps)
        x_hat /= self.deviation
        self.x_hat = x_hat
        for name, new in (("running_mean", mean), ("running_var", var * np.float32(n / (n - 1)))):
            self.buffers[name] += self.momentum * (new - self.buffers[name])
        y = x_hat * self.params["weight"]
        y += self.params["bias"]
        return y.reshape(x.shape)

    def backward(self, grad: Array) -> Array:
        rows = grad.reshape(-1, grad.shape[-1])
        n = np.float32(len(rows))
        grad_bias = np.ones(len(rows), np.float32) @ rows
        grad_weight = np.einsum("pc,pc->c", rows, self.x_hat)
        self.grads["weight"], self.grads["bias"] = grad_weight, grad_bias
        x_hat = self.x_hat
        x_hat *= -grad_weight / n  # not needed any more
        x_hat += rows
        x_hat -= grad_bias / n
        x_hat *= self.params["weight"] / self.deviation
        return x_hat.reshape(grad.shape)


class ReLU(Layer):
    def __init__(self, inplace: bool = True) -> None:  # within a network, what made x does not need it
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Array) -> Array:
        self.y: Array = np.maximum(x, 0, out=x if self.inplace else None)
        return self.y

    def backward(self, grad: Array) -> Array:
        return np.multiply(grad, self.y > 0, out=grad if self.inplace else None)


class MaxPool2d(Layer):
    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        self.k, self.stride, self.padding = kernel_size, stride or kernel_size, padding

    def _taps(self, x: Array, out: tuple[int, int]) -> Iterator[Array]:
        s = self.stride
        for i in range(self.k):
            for j in range(self.k):
                yield x[:, i : i + s * (out[0] - 1) + 1 : s, j : j + s * (out[1] - 1) + 1 : s]

    def forward(self, x: Array) -> Array:
        p = self.padding
        if p:
            x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=-np.inf)
        self.x = x
        self.out = (x.shape[1] - self.k) // self.stride + 1, (x.shape[2] - self.k) // self.stride + 1
        first, *others = self._taps(x, self.out)
        self.y = first.copy()
        for tap in others:
            np.maximum(self.y, tap, out=self.y)
        return self.y

    def backward(self, grad: Array) -> Array:
        grad_x = np.zeros_like(self.x)
        open_ = np.ones(
            grad.shape, bool
        )  # whose maximum is not found yet: the first of equals gets the gradient
        for tap, grad_tap in zip(self._taps(self.x, self.out), self._taps(grad_x, self.out), strict=True):
            found = tap == self.y
            found &= open_
            open_ ^= found
            grad_tap += grad * found
        p = self.padding
        return grad_x[:, p:-p, p:-p] if p else grad_x


class AdaptiveAvgPool2d(Layer):
    """To one pixel."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        if output_size != 1:
            raise ValueError("only output_size = 1")

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return np.asarray(x.mean((1, 2), keepdims=True))

    def backward(self, grad: Array) -> Array:
        _, height, width, _ = self.shape
        return np.ascontiguousarray(np.broadcast_to(grad / np.float32(height * width), self.shape))


class Flatten(Layer):
    """To PyTorch's order of numbers: channels slowest."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)

    def backward(self, grad: Array) -> Array:
        n, height, width, c = self.shape
        return np.ascontiguousarray(grad.reshape(n, c, height, width).transpose(0, 2, 3, 1))


class Sequential(Layer):
    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        self.layers = layers

    def children(self) -> list[tuple[str, Layer]]:
        return [(str(i), layer) for i, layer in enumerate(self.layers)]

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Array) -> Array:
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad


class Residual(Layer):
    """relu(main(x) + shortcut(x))"""

    def __init__(self, main: Layer, shortcut: Layer) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def children(self) -> list[tuple[str, Layer]]:
        return [("main", self.main), ("shortcut", self.shortcut)]

    def forward(self, x: Array) -> Array:
        y = self.main.forward(x)
        y += self.shortcut.forward(x)
        self.y = np.maximum(y, 0, out=y)
        return y

    def backward(self, grad: Array) -> Array:
        grad = grad * (self.y > 0)
        return self.main.backward(grad) + self.shortcut.backward(grad)


class Identity(Layer):
    def forward(self, x: Array) -> Array:
        return x

    def backward(self, grad: Array) -> Array:
        return grad


def softmax_cross_entropy(logits: Array, target: Array) -> tuple[float, Array]:
    """The mean loss over the batch and its gradient."""
    shifted = logits - logits.max(1, keepdims=True)
    p: Array = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    at = np.arange(len(target))
    loss = float((np.log(total[:, 0]) - shifted[at, target]).mean())
    p /= total
    p[at, target] -= 1
    p /= np.float32(len(target))
    return loss, p


class CrossEntropyLoss(Layer):
    """The mean cross-entropy of logits and class indices, as a layer."""

    def __init__(self, target: Array) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: Array) -> Array:
        loss, self.grad = softmax_cross_entropy(x, self.target)
        return np.array(loss, np.float32)

    def backward(self, grad: Array) -> Array:
        return self.grad * grad


class SGD:
    """v = momentum v + g;  w = w - lr v"""

    def __init__(self, model: Layer, lr: float, momentum: float) -> None:
        self.layers = [layer for _, layer in model.named_layers() if layer.params]
        self.lr, self.momentum = np.float32(lr), np.float32(momentum)
        self.velocity = [{k: np.zeros_like(v) for k, v in layer.params.items()} for layer in self.layers]

    def step(self) -> None:
        for layer, velocity in zip(self.layers, self.velocity, strict=True):
            for name, v in velocity.items():
                v *= self.momentum
                v += layer.grads[name]
                layer.params[name] -= self.lr * v


class Trainer:
    """One step on x (N, C, H, W) and class indices."""

    def __init__(self, model: Sequential, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.model, self.sgd = model, SGD(model, lr, momentum)
        model.layers[0].needs_grad_input = False

    def train_step(self, x: Array, target: Array) -> float:
        logits = self.model.forward(channels_last(x))
        loss, grad = softmax_cross_entropy(logits, target)
        self.model.backward(grad)
        self.sgd.step()
        return loss

    def predict(self, x: Array) -> Array:
        return self.model.forward(channels_last(x))


def channels_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))
