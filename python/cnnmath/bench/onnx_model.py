"""The networks of the benchmarks as ONNX, for peers that read it. Batch norm is in evaluation mode, by its own op."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper, numpy_helper

from . import numpy_cnn
from .networks import initial_state, network

OPSET = 17


def onnx_model(name: str, batch: int) -> bytes:
    """The network with its initial weights; its input is "x" of a fixed shape, its output "logits"."""
    net = network(name)
    model = net.build(numpy_cnn)
    model.load_state_dict(initial_state(model.state_dict()))
    writer = _Writer()
    writer.write(model, "x", "", "logits")
    single = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("x", single, [batch, *net.input])],
        [helper.make_tensor_value_info("logits", single, [batch, net.classes])],
        writer.weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    proto.ir_version = 8  # that of the opset's time, for older readers
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def write(self, layer: numpy_cnn.Layer, x: str, prefix: str, out: str) -> str:
        """Adds the nodes of a layer that reads the tensor `x`; gives the name of its result, `out` if it makes one."""
        match layer:
            case numpy_cnn.Sequential():
                children = layer.children()
                for i, (name, child) in enumerate(children):
                    last = i == len(children) - 1
                    x = self.write(child, x, f"{prefix}{name}.", out if last else f"{prefix}{name}")
                return x
            case numpy_cnn.Residual():
                main = self.write(layer.main, x, f"{prefix}main.", f"{prefix}main")
                shortcut = self.write(layer.shortcut, x, f"{prefix}shortcut.", f"{prefix}shortcut")
                total = self.node("Add", [main, shortcut], f"{prefix}sum")
                return self.node("Relu", [total], out)
            case numpy_cnn.Identity():
                return x
            case numpy_cnn.Conv2d():
                inputs = [x, *self.arrays(layer, prefix, "weight", "bias")]
                pads, strides = [layer.padding] * 4, [layer.stride] * 2
                return self.node("Conv", inputs, out, kernel_shape=[layer.k] * 2, pads=pads, strides=strides)
            case numpy_cnn.Linear():
                return self.node("Gemm", [x, *self.arrays(layer, prefix, "weight", "bias")], out, transB=1)
            case numpy_cnn.BatchNorm2d():
                names = ("weight", "bias", "running_mean", "running_var")
                inputs = [x, *self.arrays(layer, prefix, *names)]
                return self.node("BatchNormalization", inputs, out, epsilon=float(layer.eps))
            case numpy_cnn.MaxPool2d():
                pads, strides = [layer.padding] * 4, [layer.stride] * 2
                return self.node("MaxPool", [x], out, kernel_shape=[layer.k] * 2, pads=pads, strides=strides)
            case numpy_cnn.ReLU():
                return self.node("Relu", [x], out)
            case numpy_cnn.AdaptiveAvgPool2d():
                return self.node("GlobalAveragePool", [x], out)
            case numpy_cnn.Flatten():
                return self.node("Flatten", [x], out)
        raise TypeError(f"no ONNX for {type(layer).__name__}")

    def node(self, op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def arrays(self, layer: numpy_cnn.Layer, prefix: str, *names: str) -> list[str]:
        """The layer's arrays of these names, as far as it has them, as constants of the graph."""
        state = layer.state_dict()
        present = [name for name in names if name in state]
        self.weights += [numpy_helper.from_array(state[name].copy("C"), prefix + name) for name in present]
        return [prefix + name for name in present]
