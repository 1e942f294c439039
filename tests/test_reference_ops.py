"""The NumPy reference: every backward against central differences, every forward against PyTorch or SciPy."""

import numpy as np
import pytest
from scipy import ndimage

import cnnmath.reference as ref

from .checks import check_gradients

rng = np.random.default_rng


# linear


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("weight_shape", [(4, 5), (5,)])
def test_linear(shape, weight_shape):
    r = rng(5)
    x, weight, bias = (
        r.normal(size=shape),
        r.normal(size=weight_shape),
        np.array(r.normal(size=weight_shape[:-1])),
    )
    y = ref.linear(x, weight, bias)
    assert y.shape == (*shape[:-1], *weight_shape[:-1])
    np.testing.assert_allclose(
        y, np.einsum("...i,oi->...o", x, np.atleast_2d(weight)).reshape(y.shape) + bias
    )
    grad = r.normal(size=y.shape)
    gradients = ref.linear_backward(np.asarray(grad), x, weight)
    check_gradients(lambda: ref.linear(x, weight, bias), (x, weight, bias), gradients, grad)


# pooling

POOLS = [
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 1), "ceil_mode": True},
    {"kernel_size": 3, "stride": 1},
]


@pytest.mark.parametrize("how", [*POOLS, {"kernel_size": 2, "dilation": 2, "stride": 1}], ids=str)
def test_max_pool2d(how):
    r = rng(6)
    x = r.permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(np.float64)
    y, indices = ref.max_pool2d(x, **how)
    np.testing.assert_array_equal(
        y.ravel(), np.take_along_axis(x.reshape(6, -1), indices.reshape(6, -1), 1).ravel()
    )
    grad = r.normal(size=y.shape)
    gradient = ref.max_pool2d_backward(grad, indices, x.shape)
    check_gradients(lambda: ref.max_pool2d(x, **how)[0], (x,), (gradient,), grad)

    torch = pytest.importorskip("torch")
    expected, where = torch.nn.functional.max_pool2d(torch.tensor(x), return_indices=True, **how)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, where)


def test_max_pool2d_ties_nan_and_infinities():
    x = np.array(
        [[1.0, 1, 0, np.nan], [1, 1, np.nan, 5], [-np.inf, -np.inf, 2, np.inf], [-np.inf, -np.inf, 3, 4]]
    )
    y, indices = ref.max_pool2d(x[None], 2)
    np.testing.assert_array_equal(y[0], [[1, np.nan], [-np.inf, np.inf]])
    np.testing.assert_array_equal(indices[0], [[0, 6], [8, 11]])
    torch = pytest.importorskip("torch")
    expected, where = torch.nn.functional.max_pool2d(torch.tensor(x[None]), 2, return_indices=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, where)


def test_max_pool2d_is_scipys_maximum_filter():
    x = rng(7).normal(size=(1, 8, 8))
    y, _ = ref.max_pool2d(x, 3, stride=1, padding=1)
    np.testing.assert_array_equal(y[0], ndimage.maximum_filter(x[0], 3, mode="constant", cval=-np.inf))


@pytest.mark.parametrize("how", POOLS, ids=str)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("divisor_override", [None, 5])
def test_avg_pool2d(how, count_include_pad, divisor_override):
    r = rng(8)
    x = r.normal(size=(2, 2, 7, 8))
    how = dict(how, count_include_pad=count_include_pad, divisor_override=divisor_override)
    y = ref.avg_pool2d(x, **how)
    grad = r.normal(size=y.shape)
    check_gradients(lambda: ref.avg_pool2d(x, **how), (x,), (ref.avg_pool2d_backward(grad, x, **how),), grad)
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(y, torch.nn.functional.avg_pool2d(torch.tensor(x), **how), atol=1e-14)


def test_avg_pool2d_is_scipys_uniform_filter():
    x = rng(9).normal(size=(1, 8, 8))
    y = ref.avg_pool2d(x, 3, stride=1, padding=1)
    np.testing.assert_allclose(y[0], ndimage.uniform_filter(x[0], 3, mode="constant"), atol=1e-14)


@pytest.mark.parametrize("size", [1, (3, 2), (None, 5), (9, 10)])
def test_adaptive_pools(size):
    r = rng(10)
    x = r.permutation(2 * 2 * 7 * 8).reshape(2, 2, 7, 8).astype(np.float64)
    y = ref.adaptive_avg_pool2d(x, size)
    grad = r.normal(size=y.shape)
    gradient = ref.adaptive_avg_pool2d_backward(grad, x, size)
    check_gradients(lambda: ref.adaptive_avg_pool2d(x, size), (x,), (gradient,), grad)
    biggest, indices = ref.adaptive_max_pool2d(x, size)
    gradient = ref.adaptive_max_pool2d_backward(grad, indices, x.shape)
    check_gradients(lambda: ref.adaptive_max_pool2d(x, size)[0], (x,), (gradient,), grad)

    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    np.testing.assert_allclose(y, f.adaptive_avg_pool2d(torch.tensor(x), size), atol=1e-13)
    expected, where = f.adaptive_max_pool2d(torch.tensor(x), size, return_indices=True)
    np.testing.assert_array_equal(biggest, expected)
    np.testing.assert_array_equal(indices, where)


# batch normalisation


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 4, 3)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, training, affine):
    r = rng(11)
    x = r.normal(size=shape) * 3 + 1
    mean, var = r.normal(size=3), r.uniform(0.5, 2, size=3)
    weight, bias = (r.normal(size=3), r.normal(size=3)) if affine else (None, None)
    y, new_mean, new_var = ref.batch_norm(x, mean, var, weight, bias, training, 0.3)
    grad = r.normal(size=shape)
    gradients = ref.batch_norm_backward(grad, x, mean, var, weight, training)

    def f():
        return ref.batch_norm(x, mean, var, weight, bias, training)[0]

    if affine:
        check_gradients(f, (x, weight, bias), gradients, grad)
    else:
        check_gradients(f, (x,), gradients[:1], grad)

    torch = pytest.importorskip("torch")
    tm, tv = torch.tensor(mean), torch.tensor(var)
    tw, tb = (None if a is None else torch.tensor(a) for a in (weight, bias))
    expected = torch.nn.functional.batch_norm(torch.tensor(x), tm, tv, tw, tb, training, 0.3)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(new_mean, tm, atol=1e-14)
    np.testing.assert_allclose(new_var, tv, atol=1e-14)


# activations and softmax


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_activations(name):
    r = rng(12)
    f, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    x, grad = r.normal(size=(3, 4)) * 2, r.normal(size=(3, 4))
    check_gradients(lambda: f(x), (x,), (backward(grad, x),), grad)

    torch = pytest.importorskip("torch")
    x = np.array([-1000, -3, -0.0, 0, 1e-9, 2, 1000, np.inf, -np.inf, np.nan])
    tx = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, name)(tx)
    np.testing.assert_allclose(f(x), expected.detach(), rtol=1e-14)
    expected.sum().backward()
    np.testing.assert_allclose(backward(np.ones_like(x), x), tx.grad, rtol=1e-14)
    assert f(x.astype(np.float32)).dtype == np.float32
    assert backward(grad.astype(np.float32), grad.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    "shape,dim", [((4,), 0), ((2, 4), 1), ((2, 3, 4), -1), ((2, 3, 4), 1), ((2, 3, 2, 2), 1)]
)
def test_softmax(name, shape, dim):
    r = rng(13)
    f, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    x, grad = r.normal(size=shape), r.normal(size=shape)
    check_gradients(lambda: f(x, dim), (x,), (backward(grad, x, dim),), grad)
    torch = pytest.importorskip("torch")
    for y in (x, x + 1000, np.where(x > 1, -np.inf, x)):
        np.testing.assert_allclose(f(y, dim), getattr(torch, name)(torch.tensor(y), dim), rtol=1e-12)


# losses


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (1, 4)), ((), ())])
def test_mse_loss(reduction, shapes):
    r = rng(14)
    x, t = (np.asarray(r.normal(size=s)) for s in shapes)
    y = ref.mse_loss(x, t, reduction)
    grad = np.asarray(r.normal(size=y.shape))
    gradients = ref.mse_loss_backward(grad, x, t, reduction)
    check_gradients(lambda: ref.mse_loss(x, t, reduction), (x, t), gradients, grad)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 4, 3), (2, 4, 2, 3)])
def test_cross_entropy(reduction, weighted, smoothing, probabilities, shape):
    r = rng(15)
    x = r.normal(size=shape)
    weight = r.uniform(0.5, 2, size=4) if weighted else None
    without_classes = shape[:0] if len(shape) == 1 else (shape[0], *shape[2:])
    if probabilities:
        t = ref.softmax(r.normal(size=shape), 0 if len(shape) == 1 else 1)
    else:
        t = np.asarray(r.integers(0, 4, size=without_classes))
        if t.size > 1:
            t.flat[0] = -100
    how = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    y = ref.cross_entropy(x, t, **how)
    grad = np.asarray(r.normal(size=y.shape))
    gx, gt = ref.cross_entropy_backward(grad, x, t, **how)
    arrays, gradients = ((x, t), (gx, gt)) if probabilities else ((x,), (gx,))
    check_gradients(lambda: ref.cross_entropy(x, t, **how), arrays, gradients, grad)

    torch = pytest.importorskip("torch")
    tw = None if weight is None else torch.tensor(weight)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(x), torch.tensor(t), weight=tw, reduction=reduction, label_smoothing=smoothing
    )
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert (
        ref.cross_entropy(x.astype(np.float32), t if not probabilities else t.astype(np.float32)).dtype
        == np.float32
    )


def test_cross_entropy_edges():
    x = np.zeros((2, 3))
    assert np.isnan(ref.cross_entropy(x, np.array([-100, -100])))
    assert ref.cross_entropy(np.array([[0.0, -np.inf]]), np.array([0])) == 0
    with pytest.raises(ValueError, match="outside the 3 classes"):
        ref.cross_entropy(x, np.array([0, 3]))


# the rest


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (4, 1, 3)), ((), (2,))])
def test_arithmetic(name, shapes):
    r = rng(16)
    a, b = (np.asarray(r.normal(size=s)) for s in shapes)
    how = {} if name == "mul" else {"alpha": 2.5}
    f, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    y = f(a, b, **how)
    expected = {"add": a + 2.5 * b, "sub": a - 2.5 * b, "mul": a * b}[name]
    np.testing.assert_array_equal(y, expected)
    grad = r.normal(size=y.shape)
    check_gradients(lambda: f(a, b, **how), (a, b), backward(grad, a, b, **how), grad)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), ()])
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions(name, dim, keepdim):
    r = rng(17)
    f, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    x = r.normal(size=(2, 3, 4))
    y = f(x, dim, keepdim)
    grad = np.asarray(r.normal(size=y.shape))
    check_gradients(lambda: f(x, dim, keepdim), (x,), (backward(grad, x, dim, keepdim),), grad)
    torch = pytest.importorskip("torch")
    expected = getattr(torch, name)(torch.tensor(x), dim=dim, keepdim=keepdim)
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_cat():
    r = rng(18)
    arrays = [r.normal(size=(2, n, 3)) for n in (1, 0, 4)]
    y = ref.cat(arrays, 1)
    np.testing.assert_array_equal(y, np.concatenate(arrays, 1))
    for part, a in zip(ref.cat_backward(y, arrays, -2), arrays, strict=True):
        np.testing.assert_array_equal(part, a)
    assert ref.cat([np.zeros(0), np.ones((2, 2))]).shape == (2, 2)
    assert [g.shape for g in ref.cat_backward(np.ones((2, 2)), [np.zeros(0), np.ones((2, 2))])] == [
        (0,),
        (2, 2),
    ]


def test_reshape_and_flatten():
    x = rng(19).normal(size=(2, 3, 4, 5))
    assert ref.flatten(x, 1).shape == (2, 60)
    assert ref.flatten(x, 1, 2).shape == (2, 12, 5)
    assert ref.flatten(np.array(3.0)).shape == (1,)
    assert ref.reshape(x, (6, -1)).shape == (6, 20)
    np.testing.assert_array_equal(ref.flatten_backward(ref.flatten(x), x), x)
    np.testing.assert_array_equal(ref.reshape_backward(ref.reshape(x, (-1,)), x), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("amount", [(1, 2), (3, 0), (1, 1, 2, 0), (-1, 2), (-1, -1, 2, 1)])
def test_pad(mode, amount):
    r = rng(20)
    x = r.normal(size=(2, 3, 4, 5) if len(amount) == 4 else (2, 3, 5))
    y = ref.pad(x, amount, mode)
    grad = r.normal(size=y.shape)
    check_gradients(lambda: ref.pad(x, amount, mode), (x,), (ref.pad_backward(grad, x, amount, mode),), grad)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(y, torch.nn.functional.pad(torch.tensor(x), amount, mode))


def test_pad_value():
    assert ref.pad(np.zeros((1, 2), np.float32), (1, 0), value=7).tolist() == [[7, 0, 0]]
    assert ref.pad(np.zeros((0, 2)), (0, 0, 1, 1)).shape == (2, 2)


def test_dropout():
    r = rng(21)
    x, grad, mask = r.normal(size=(3, 4)), r.normal(size=(3, 4)), r.random((3, 4)) < 0.5
    np.testing.assert_allclose(ref.dropout(x, mask, 0.75), np.where(mask, 4 * x, 0))
    check_gradients(lambda: ref.dropout(x, mask, 0.25), (x,), (ref.dropout_backward(grad, mask, 0.25),), grad)
    assert (ref.dropout(x, np.zeros((3, 4)), 1.0) == 0).all()


def test_philox_known_answers():
    """The vectors that the authors of Philox publish with it."""

    def words(text):
        return np.array([int(w, 16) for w in text.split()], np.uint32)

    known = [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, expected in known:
        np.testing.assert_array_equal(ref.philox4x32(words(counter), words(key)), words(expected))
    counters = np.stack([words(c) for c, k, e in known[:1] * 3])
    assert ref.philox4x32(counters, words("0 0")).shape == (3, 4)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_regularizers(name):
    r = rng(22)
    w, grad = r.normal(size=(3, 4)), np.asarray(1.7)
    f, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    check_gradients(lambda: f(w, 0.3), (w,), (backward(grad, w, 0.3),), grad)


# updates


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_sgd_is_torchs(how):
    torch = pytest.importorskip("torch")
    r = rng(23)
    w, velocity = r.normal(size=5), None
    p = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.SGD([p], lr=0.1, **how)
    for _ in range(4):
        g = r.normal(size=5)
        p.grad = torch.tensor(g)
        optimizer.step()
        w, velocity = ref.sgd(w, g, velocity, lr=0.1, **how)
        np.testing.assert_allclose(w, p.detach(), rtol=1e-12)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_torchs(name, amsgrad, weight_decay):
    torch = pytest.importorskip("torch")
    r = rng(24)
    w, m, v = r.normal(size=5), np.zeros(5), np.zeros(5)
    v_max = np.zeros(5) if amsgrad else None
    p = torch.nn.Parameter(torch.tensor(w))
    how = {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    optimizer = getattr(torch.optim, name)([p], amsgrad=amsgrad, **how)
    for step in range(1, 6):
        g = r.normal(size=5) / step
        p.grad = torch.tensor(g)
        optimizer.step()
        w, m, v, v_max = getattr(ref, name.lower())(w, g, m, v, step, v_max, **how)
        np.testing.assert_allclose(w, p.detach(), rtol=1e-10)
