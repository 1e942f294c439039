"""The NumPy reference of convolution and its transpose: against central differences, PyTorch and SciPy."""

import doctest

import numpy as np
import pytest
from scipy import signal

import cnnmath.reference as ref
import cnnmath.reference.conv

from .checks import check_gradients

rng = np.random.default_rng


def test_the_worked_example():
    assert doctest.testmod(cnnmath.reference.conv).failed == 0
    image = np.tile(np.arange(4.0, -1, -1), (5, 1))
    kernel = np.tile([1.0, 0, -1], (3, 1))
    assert (ref.conv2d(image[None], kernel[None, None]) == 6).all()


CONVOLUTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1)},
    {"padding": "same", "dilation": (1, 2)},
    {"padding": "valid"},
    {"padding": (0, 3, 2, 1), "stride": 2},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": 2},
]


@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
def test_conv2d_gradients(how):
    r = rng(1)
    x = r.normal(size=(2, 4, 6, 7))
    weight = r.normal(size=(4, 4 // how.get("groups", 1), 3, 2))
    bias = r.normal(size=4)
    y = ref.conv2d(x, weight, bias, **how)
    grad = r.normal(size=y.shape)
    gradients = ref.conv2d_backward(grad, x, weight, **how)
    check_gradients(lambda: ref.conv2d(x, weight, bias, **how), (x, weight, bias), gradients, grad)


def test_conv2d_is_scipys_cross_correlation():
    r = rng(2)
    x, weight = r.normal(size=(2, 3, 9, 8)), r.normal(size=(4, 3, 3, 5))
    y = ref.conv2d(x, weight)
    for b in range(2):
        for o in range(4):
            expected = sum(signal.correlate2d(x[b, c], weight[o, c], "valid") for c in range(3))
            np.testing.assert_allclose(y[b, o], expected, atol=1e-12)


@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
def test_conv2d_is_torchs(how):
    torch = pytest.importorskip("torch")
    r = rng(3)
    x = r.normal(size=(2, 4, 9, 8))
    weight = r.normal(size=(8, 4 // how.get("groups", 1), 3, 2))
    bias = r.normal(size=8)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, weight, bias))
    arguments, source = dict(how), tx
    if isinstance(how.get("padding"), tuple) and len(how["padding"]) == 4:
        source = torch.nn.functional.pad(tx, arguments.pop("padding"))
    expected = torch.nn.functional.conv2d(source, tw, tb, **arguments)
    y = ref.conv2d(x, weight, bias, **how)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-12)
    grad = r.normal(size=y.shape)
    expected.backward(torch.tensor(grad))
    for ours, theirs in zip(ref.conv2d_backward(grad, x, weight, **how), (tx, tw, tb), strict=True):
        np.testing.assert_allclose(ours, theirs.grad, atol=1e-11)


def test_conv2d_of_one_image_and_of_float32():
    r = rng(4)
    x, weight = r.normal(size=(3, 5, 5)), r.normal(size=(2, 3, 3, 3))
    y = ref.conv2d(x, weight)
    np.testing.assert_array_equal(y, ref.conv2d(x[None], weight)[0])
    grad_x, *_ = ref.conv2d_backward(y, x, weight)
    assert grad_x.shape == x.shape
    single = ref.conv2d(x.astype(np.float32), weight.astype(np.float32), np.zeros(2, np.float32))
    assert single.dtype == np.float32


TRANSPOSED = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (2, 3), "padding": (1, 2), "output_padding": (0, 2), "dilation": (2, 1)},
    {"dilation": (1, 3), "output_padding": (0, 2)},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": 2},
]


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
def test_conv_transpose2d_gradients(how):
    r = rng(1)
    x = r.normal(size=(2, 4, 4, 3))
    weight = r.normal(size=(4, 3, 3, 2))
    bias = r.normal(size=3 * how.get("groups", 1))
    y = ref.conv_transpose2d(x, weight, bias, **how)
    grad = r.normal(size=y.shape)
    gradients = ref.conv_transpose2d_backward(grad, x, weight, **how)
    check_gradients(lambda: ref.conv_transpose2d(x, weight, bias, **how), (x, weight, bias), gradients, grad)


def test_conv_transpose2d_is_scipys_full_convolution():
    r = rng(2)
    x, weight = r.normal(size=(2, 3, 6, 5)), r.normal(size=(3, 4, 3, 2))
    y = ref.conv_transpose2d(x, weight)
    for b in range(2):
        for o in range(4):
            expected = sum(signal.convolve2d(x[b, c], weight[c, o], "full") for c in range(3))
            np.testing.assert_allclose(y[b, o], expected, atol=1e-12)


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
def test_conv_transpose2d_is_the_transpose(how):
    """<conv y, x> = <y, convᵀ x>; conv2d may see more than x where output_padding is a step of the stride."""
    r = rng(3)
    x, weight = r.normal(size=(2, 4, 5, 6)), r.normal(size=(4, 2, 3, 2))
    there = ref.conv_transpose2d(x, weight, **how)
    y = r.normal(size=there.shape)
    back = ref.conv2d(y, weight, **{k: v for k, v in how.items() if k != "output_padding"})
    np.testing.assert_allclose((back[..., :5, :6] * x).sum(), (y * there).sum(), rtol=1e-10)


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
def test_conv_transpose2d_is_torchs(how):
    torch = pytest.importorskip("torch")
    r = rng(4)
    x, weight = r.normal(size=(2, 4, 5, 6)), r.normal(size=(4, 3, 3, 2))
    bias = r.normal(size=3 * how.get("groups", 1))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    expected = torch.nn.functional.conv_transpose2d(*tensors, **how)
    y = ref.conv_transpose2d(x, weight, bias, **how)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-12)
    grad = r.normal(size=y.shape)
    expected.backward(torch.tensor(grad))
    for ours, theirs in zip(ref.conv_transpose2d_backward(grad, x, weight, **how), tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad, atol=1e-11)
    np.testing.assert_array_equal(ref.conv_transpose2d(x[0], weight, bias, **how), y[0])
    grad_x, *_ = ref.conv_transpose2d_backward(grad[0], x[0], weight, **how)
    np.testing.assert_allclose(grad_x, tensors[0].grad[0], atol=1e-11)
    single = ref.conv_transpose2d(x.astype(np.float32), weight.astype(np.float32), **how)
    assert single.dtype == np.float32
