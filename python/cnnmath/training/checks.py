"""What `fit` looks at before a step has changed anything: shapes, dtypes and labels of all its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..functional.losses import class_dim, cross_entropy_op
from ..graph.ir import Graph
from .batches import ArrayBatches, Batch, IterableBatches, naming
from .steps import in_mode
from .weights import ClassWeights

if TYPE_CHECKING:
    from .trainer import Trainer


def check_training(
    trainer: Trainer, batches: ArrayBatches | IterableBatches, first: Batch, weigh: ClassWeights | None
) -> None:
    """Has the step of the first batch planned, and looks at the labels of all. Nothing is run."""
    graph = trainer._planned(*first)[0].plan.graph
    if isinstance(batches, ArrayBatches):
        check_labels(graph, batches.y.physical)
    classes = _classes(graph)
    if weigh is not None and classes is not None:
        weigh.check(classes)


def check_validation(trainer: Trainer, batches: ArrayBatches | IterableBatches) -> None:
    """The same for evaluation. A loader that cannot be set back is not looked at."""
    with naming("validation_data"), in_mode(trainer.model, False):
        first = batches.first()
        if first is not None:
            graph = trainer._find(trainer._objective, *first)[0].plan.graph
            check_labels(graph, batches.y.physical if isinstance(batches, ArrayBatches) else first[1])


def check_labels(graph: Graph, y: np.ndarray) -> None:
    """Runs those tests on all targets that the loss has for each batch, such as the range of class indices."""
    for tensor, test in graph.checks:
        if tensor.index == 1:
            test(y)


def _classes(graph: Graph) -> int | None:
    """The number of classes, where the loss is cross-entropy."""
    logits = [node.inputs[0] for node in graph.nodes if node.op is cross_entropy_op]
    return logits[0].shape[class_dim(logits[0])] if logits and logits[0] is not None else None
