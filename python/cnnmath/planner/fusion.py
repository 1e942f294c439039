"""Fusion: a ReLU, a sum with a shortcut, or a max-pool is done by the op before it while its result is in registers.

Ops say what they can take over (the attributes and `with_...` methods of `Op`); these passes find where. Each rewrite
keeps the arithmetic as it was, to the bit, but for sums over channels: in the gradient that comes through a max-pool
three in four numbers are zeros that need not be added, and what an op sums as it writes comes in its own order.
"""

from __future__ import annotations

from ..graph.ir import Graph, Node, Spec, Tensor, tracing
from .lowering import lasting


def _consumers(graph: Graph) -> dict[Tensor, list[Node]]:
    """Who reads each tensor; an output of the graph has the reader None as well."""
    readers: dict[Tensor, list[Node]] = {}
    for node in graph.nodes:
        for t in node.inputs:
            if t is not None:
                readers.setdefault(t, []).append(node)
    for t in graph.outputs:
        readers.setdefault(t, []).append(None)  # type: ignore[arg-type]
    return readers


def _move(graph: Graph, producer: Node, consumer: Node, readers: dict[Tensor, list[Node]]) -> bool:
    """Puts `producer` in the place of `consumer`, whose output it now computes, if none reads it before that."""
    position = {id(node): i for i, node in enumerate(graph.nodes)}
    at = position[id(consumer)]
    for t in producer.outputs[1:]:
        if any(reader is not None and position[id(reader)] < at for reader in readers.get(t, ())):
            return False
    # What is written in place (running statistics) is read and written in program order.
    written = set(producer.op.writes(producer))
    for node in graph.nodes[position[id(producer)] + 1 : at]:
        if written.intersection(node.inputs) or set(node.op.writes(node)).intersection(producer.inputs):
            return False
    graph.nodes.remove(producer)
    graph.nodes[graph.nodes.index(consumer)] = producer
    result = consumer.output
    result.node, result.index = producer, 0
    producer.outputs = (result, *producer.outputs[1:])
    return True


def _only_reader(t: Tensor, node: Node, readers: dict[Tensor, list[Node]]) -> bool:
    return readers.get(t) == [node]


def move_once(graph: Graph) -> None:
    """What is brought from one order of memory to another, and on to a third, goes there at once."""
    written = {t for node in graph.nodes for t in node.op.writes(node)}
    for node in graph.nodes:
        if node.op.name == "relayout":
            before = node.inputs[0].node if node.inputs[0] is not None else None
            if before is not None and before.op.name == "relayout" and before.inputs[0] not in written:
                node.inputs = before.inputs


def fuse_shortcut(graph: Graph) -> None:
    """y = f(x) + shortcut, in one op."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name != "add" or node.cells:
            continue
        a, b = node.inputs
        assert a is not None and b is not None
        # The later of the two takes the earlier one as its shortcut.
        for t, shortcut in ((b, a), (a, b)):
            producer = t.node
            slot = None if producer is None else producer.op.residual_input
            if (
                producer is None
                or slot is None
                or t is not producer.output
                or producer.inputs[slot] is not None
                or producer.attrs.get("relu")
                or t.shape != shortcut.shape
                or not shortcut.has_order(t.order)
                or not _only_reader(t, node, readers)
            ):
                continue
            if _move(graph, producer, node, readers):
                producer.inputs = (*producer.inputs[:slot], shortcut, *producer.inputs[slot + 1 :])
                readers[shortcut] = [producer if r is node else r for r in readers[shortcut]]
                break


def fold_batch_norm(graph: Graph) -> None:
    """A batch_norm_eval behind f(x), of statistics and weights that last: by f, with other weights."""
    readers = _consumers(graph)
    last = lasting(graph)
    for node in list(graph.nodes):
        if node.op.name != "batch_norm_eval":
            continue
        x, *others = node.inputs
        producer = None if x is None else x.node
        if (
            x is None
            or producer is None
            or node.op.residual_input is None
            or node.inputs[node.op.residual_input] is not None
            or not all(t is None or t in last for t in (*others, *producer.inputs[1:]))
            or not _only_reader(x, node, readers)
        ):
            continue
        before = len(graph.nodes)
        with tracing(graph):
            inputs = producer.op.with_batch_norm(producer, node)
        made, graph.nodes[before:] = graph.nodes[before:], []
        if inputs is not None and _move(graph, producer, node, readers):
            producer.inputs = inputs
            at = graph.nodes.index(producer)
            graph.nodes[at:at] = made


def fuse_relu(graph: Graph) -> None:
    """y = max(f(x), 0), in one op."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name != "relu":
            continue
        (x,) = node.inputs
        assert x is not None
        producer = x.node
        if (
            producer is not None
            and producer.op.fuses_relu
            and x is producer.output
            and not producer.attrs.get("relu")
            and _only_reader(x, node, readers)
            and _move(graph, producer, node, readers)
        ):
            producer.attrs = {**producer.attrs, "relu": True}


def fuse_relu_mask(graph: Graph) -> None:
    """dz = dy where y > 0, by the op that reads dz; it gives dz too where others (a shortcut) want it."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name != "relu_grad":
            continue
        dy, y = node.inputs
        dz = node.output
        if dy is None or y is None or not (dy.has_order(dz.order) and y.has_order(dz.order)):
            continue
        # What computes dz now must be the first of its readers.
        taker = next((n for n in graph.nodes if n in readers.get(dz, ())), None)
        if taker is None or taker.inputs[0] is not dz or taker.attrs.get("relu"):
            continue
        inputs = taker.op.with_relu_mask(taker, y)
        if inputs is None:
            continue
        graph.nodes.remove(node)
        taker.inputs = (dy, *inputs[1:])
        taker.attrs = {**taker.attrs, "relu": True}
        dz.node, dz.index = taker, len(taker.outputs)
        taker.outputs = (*taker.outputs, dz)


def mask_before_spreading(graph: Graph) -> None:
    """The gradient of relu(z) that comes through a max-pool: masked before it is spread over the windows."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name != "relu_grad":
            continue
        du, y = node.inputs
        spread = None if du is None else du.node
        if spread is None or du is None or y is None or spread.op.name != "max_pool2d_grad":
            continue
        dp, codes = spread.inputs
        pool = None if codes is None else codes.node
        if (
            pool is None
            or dp is None
            or pool.inputs[0] is not y
            or not _only_reader(du, node, readers)
            or not (du.has_order(y.order) and dp.has_order(pool.output.order))
        ):
            continue
        masked = graph.append(node.op, (dp, pool.output), node.attrs, node.cells)
        graph.nodes.remove(masked)
        graph.nodes.insert(graph.nodes.index(spread), masked)
        graph.nodes.remove(node)
        spread.inputs = (masked.output, codes)
        spread.outputs = node.outputs
        node.output.node = spread


def sum_before_spreading(graph: Graph) -> None:
    """Sums over a gradient that is spread over windows: over what is spread."""
    for node in graph.nodes:
        spread = node.inputs[0].node if node.op.name == "column_sums" and node.inputs[0] is not None else None
        if spread is None or spread.op.name != "max_pool2d_grad":
            continue
        dp = spread.inputs[0]
        # A dilated window may hold no pixel, so that its gradient goes nowhere.
        if spread.attrs["geometry"].dilation == (1, 1) and dp is not None and dp.order == spread.output.order:
            node.inputs = (dp,)


def normalise_as_read(graph: Graph) -> None:
    """relu(batch_norm(x)) that only convolutions read, who normalise x as they read it: it is not written."""
    readers = _consumers(graph)
    written = {t for node in graph.nodes for t in node.op.writes(node)}
    for node in graph.nodes:
        if node.op.name != "batch_norm" or not node.attrs.get("relu") or node.inputs[5] is not None:
            continue
        if node.inputs[0] in written:  # perhaps before a convolution would read it
            continue
        y, affine = node.output, node.outputs[3]
        takers = readers.get(y, [])
        if takers and all(_takes_affine(taker, y) for taker in takers):
            for taker in takers:
                assert taker.op.affine_input is not None
                taker.set_input(0, node.inputs[0])
                taker.set_input(taker.op.affine_input, affine)


def _takes_affine(node: Node | None, y: Tensor) -> bool:
    if node is None or node.op.affine_input is None or node.inputs.index(y) != 0 or node.inputs.count(y) != 1:
        return False
    return node.input(node.op.affine_input) is None and node.op.takes_more(node)


def moments_as_written(graph: Graph) -> None:
    """The statistics of batch_norm(f(x)), by f."""
    for node in graph.nodes:
        x = node.inputs[0] if node.op.name == "batch_norm" else None
        producer = None if x is None else x.node
        if (
            x is not None
            and producer is not None
            and producer.op.gives_moments
            and producer.outputs == (x,)
            and producer.op.takes_more(producer)
        ):
            for place in (6, 7):
                node.set_input(place, graph.extend(producer, Spec((x.shape[1],), x.dtype)))


def mask_as_written(graph: Graph) -> None:
    """The gradient of a ReLU that comes out of f, by f; and its sums over channels, which a bias wants."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name != "relu_grad":
            continue
        dy, y = node.inputs
        dz = node.output
        producer = None if dy is None else dy.node
        if (
            dy is None
            or y is None
            or producer is None
            or producer.op.relu_input is None
            or producer.outputs != (dy,)
            or not y.has_order(dy.order)
            or not _only_reader(dy, node, readers)
            or (y.node is not None and graph.nodes.index(y.node) > graph.nodes.index(producer))
            or not producer.op.takes_more(producer)
        ):
            continue
        graph.nodes.remove(node)
        producer.set_input(producer.op.relu_input, y)
        producer.outputs = (dz,)
        total = next((n for n in readers.get(dz, ()) if n is not None and n.op.name == "column_sums"), None)
        if total is not None:
            graph.nodes.remove(total)
            producer.outputs = (dz, total.output)
        for i, t in enumerate(producer.outputs):
            t.node, t.index = producer, i


def fuse_max_pool(graph: Graph) -> None:
    """The maxima of f(x) over windows, in one op; and the gradient of f that comes through them."""
    readers = _consumers(graph)
    for node in list(graph.nodes):
        if node.op.name == "max_pool2d":
            (x,) = node.inputs
            producer = None if x is None else x.node
            if (
                x is None
                or producer is None
                or x is not producer.output
                or len(producer.outputs) > 1
                or not _only_reader(x, node, readers)
            ):
                continue
            op = producer.op.with_max_pool(producer, node.attrs["geometry"])
            if op is not None and _move(graph, producer, node, readers):
                producer.op = op
                producer.outputs = node.outputs
                node.outputs[1].node = producer
        elif node.op.name == "max_pool2d_grad":
            geometry, dy = node.attrs["geometry"], node.output
            takers = readers.get(dy, [])
            if not all(_takes_gradient(taker, dy) for taker in takers):
                continue
            op = takers[0].op.with_max_pool(takers[0], geometry) if len(takers) == 1 else None
            if op is not None:
                taker = takers[0]
                place = taker.inputs.index(dy)
                taker.op = op
                taker.inputs = (*taker.inputs[:place], *node.inputs, *taker.inputs[place + 1 :])
            elif all(taker.op.takes_codes(taker, geometry) for taker in takers):
                dp, codes = node.inputs
                for taker in takers:
                    assert taker.op.codes_input is not None
                    taker.set_input(taker.inputs.index(dy), dp)
                    taker.set_input(taker.op.codes_input, codes)
            else:
                continue
            graph.nodes.remove(node)


def _takes_gradient(node: Node | None, dy: Tensor) -> bool:
    """Whether dy is the gradient that the node is given, and no other input."""
    place = None if node is None else node.op.gradient_input
    return node is not None and place is not None and node.inputs[place] is dy and node.inputs.count(dy) == 1


def fuse(graph: Graph) -> None:
    """All fusions, in place."""
    move_once(graph)
    fuse_shortcut(graph)
    fold_batch_norm(graph)
    fuse_relu(graph)
    mask_before_spreading(graph)
    sum_before_spreading(graph)
    fuse_relu_mask(graph)
    mask_as_written(graph)
    normalise_as_read(graph)
    moments_as_written(graph)
    fuse_max_pool(graph)
