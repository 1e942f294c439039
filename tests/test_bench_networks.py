"""The benchmarks' NumPy network computes what it should, and the yardsticks measure what they say."""

import numpy as np
import pytest

import cnnmath.reference as ref
from cnnmath import nn
from cnnmath.bench import numpy_cnn
from cnnmath.bench.backends import network_session
from cnnmath.bench.conv import PASSES, conv_session
from cnnmath.bench.networks import NETWORKS, flops, initial_state


def channels_first(x):
    return x.transpose(0, 3, 1, 2)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "size,c,o,k,stride,padding",
    [(9, 1, 6, 5, 1, 2), (8, 6, 16, 5, 1, 0), (7, 4, 4, 3, 2, 1), (8, 4, 8, 1, 2, 0), (11, 3, 4, 7, 2, 3)],
)
def test_convolution_of_the_numpy_network(monkeypatch, size, c, o, k, stride, padding):
    monkeypatch.setattr(
        numpy_cnn, "CACHE_BYTES", 4 * 2 * size * size * k * k * c
    )  # several blocks, one not full
    layer = numpy_cnn.Conv2d(c, o, k, stride, padding)
    weight, bias = normal(o, c, k, k), normal(o, seed=1)
    layer.load_state_dict({"weight": weight, "bias": bias})
    x = normal(5, size, size, c, seed=2)
    y = layer.forward(x)
    np.testing.assert_allclose(
        channels_first(y), ref.conv2d(channels_first(x), weight, bias, stride, padding), rtol=1e-4, atol=1e-4
    )
    grad = normal(*y.shape, seed=3)
    grad_x = layer.backward(grad)
    expected = ref.conv2d_backward(channels_first(grad), channels_first(x), weight, stride, padding)
    actual = channels_first(grad_x), layer.grads["weight"].transpose(3, 2, 0, 1), layer.grads["bias"]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("layer", ["lenet.2", "resnet20.64", "resnet20.32s2"])
def test_layers_are_measured_on_the_same_numbers(layer, which):
    plain, *others = (
        np.array(conv_session(library, layer, which, 1).answers)
        for library in ("numpy", "cnnmath", "cnnmath-direct")
    )
    for other in others:
        np.testing.assert_allclose(other, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("k,stride,padding", [(2, 2, 0), (3, 2, 1)])
def test_pooling_of_the_numpy_network(k, stride, padding):
    layer = numpy_cnn.MaxPool2d(k, stride, padding)
    x = np.round(normal(3, 8, 8, 5))  # with ties
    y = layer.forward(x)
    expected, indices = ref.max_pool2d(channels_first(x), k, stride, padding)
    np.testing.assert_array_equal(channels_first(y), expected)
    grad = np.round(4 * normal(*y.shape, seed=1))
    expected = ref.max_pool2d_backward(channels_first(grad), indices, channels_first(x).shape)
    np.testing.assert_array_equal(channels_first(layer.backward(grad)), expected)


def test_batch_norm_of_the_numpy_network():
    layer = numpy_cnn.BatchNorm2d(5)
    layer.params["weight"], layer.params["bias"] = normal(5), normal(5, seed=1)
    x, grad = normal(3, 4, 4, 5, seed=2) + 1, normal(3, 4, 4, 5, seed=3)
    weight, zeros, ones = layer.params["weight"], np.zeros(5, np.float32), np.ones(5, np.float32)
    y = layer.forward(x.copy())
    expected = ref.batch_norm(channels_first(x), zeros, ones, weight, layer.params["bias"], True)
    actual = channels_first(y), layer.buffers["running_mean"], layer.buffers["running_var"]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    grad_x = layer.backward(grad)
    expected = ref.batch_norm_backward(channels_first(grad), channels_first(x), None, None, weight, True)
    actual = channels_first(grad_x), layer.grads["weight"], layer.grads["bias"]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "resnet20"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_networks_agree_with_torch(name, mode):
    threads = pytest.importorskip("torch").get_num_threads()
    ours, theirs = (
        network_session(library, name, mode, 4, threads, 1).answers for library in ("numpy", "torch")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "resnet20"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_networks_of_cnnmath_agree(name, mode, threads):
    threads(2)
    ours, theirs = (network_session(library, name, mode, 4, 2, 1).answers for library in ("cnnmath", "numpy"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


def test_sizes_of_the_networks():
    """Multiply-adds and parameters as published: ResNet-20 has 0.27 M, ResNet-18 11.7 M and 1.8 G multiply-adds."""
    parameters = {
        name: sum(
            v.size for k, v in NETWORKS[name].build(numpy_cnn).state_dict().items() if "running" not in k
        )
        for name in ("lenet5", "resnet20", "resnet18")
    }
    assert parameters["lenet5"] == 61706
    assert parameters["resnet18"] == 11_689_512
    assert 0.26e6 < parameters["resnet20"] < 0.28e6
    assert 3.6e9 < flops("resnet18")[0] < 3.7e9


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_yardsticks(dtype, threads):
    """Their sessions check their own answers."""
    pytest.importorskip("cnnmath._core")
    from cnnmath.bench.peak import fma_session, triad_session

    threads(2)
    assert fma_session(dtype, 2).work > 0
    assert triad_session(dtype, 2, 1).work == 3 * 2**20


def test_all_libraries_start_from_the_same_weights():
    state = {
        name: initial_state(NETWORKS["resnet20"].build(room).state_dict())
        for room in (nn, numpy_cnn)
        for name in [room]
    }
    ours, plain = state[nn], state[numpy_cnn]
    assert set(ours) - set(plain) == {k for k in ours if k.endswith("num_batches_tracked")}
    for key, value in plain.items():
        np.testing.assert_array_equal(ours[key], value)
    assert 0.5 < np.std(ours["0.weight"]) / np.sqrt(2 / 27) < 1.5
