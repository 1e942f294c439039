"""Trains LeNet-5 on MNIST from Python: about 99 % of the test images right after two epochs.

The four files of MNIST are looked for in --root, or where CNNMATH_DATA says.

    python examples/train_mnist.py
    python examples/train_mnist.py --images 5000 --epochs 3
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import cnnmath
from cnnmath import Trainer, losses, models, optim


def main(arguments: Sequence[str] | None = None) -> float:
    """Gives the accuracy on the test images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="the folder of the data")
    parser.add_argument("--images", type=int, default=60000, help="how many of the 60,000 images to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--save", metavar="FILE", help="where to write the weights (safetensors)")
    options = parser.parse_args(arguments)

    # Data preparation: pixels of 0 to 1, then mean 0 and deviation 1 over the training images.
    (x, y), (x_test, y_test) = cnnmath.data.mnist(options.root)
    x, y = x[: options.images], y[: options.images]
    mean, std = np.float32(x.mean(dtype=np.float64)), np.float32(x.std(dtype=np.float64))
    x, x_test = (x - mean) / std, (x_test - mean) / std

    # Convolution, pooling, fully connected layers.
    cnnmath.manual_seed(0)
    model = models.lenet5()
    print(model.summary((1, 28, 28)))

    # Optimization; the learning rate rises, then falls to almost 0.
    optimizer = optim.AdamW(model, lr=0.01)
    steps = options.epochs * -(-len(x) // options.batch_size)
    schedule = optim.schedules.OneCycleLR(optimizer, 0.01, total_steps=steps)
    trainer = Trainer(model, optimizer, losses.CrossEntropyLoss(), metrics=["accuracy"])
    trainer.fit(x, y, batch_size=options.batch_size, epochs=options.epochs, callbacks=[schedule])

    accuracy = trainer.evaluate(x_test, y_test)["accuracy"]
    print(f"{100 * accuracy:.2f} % of {len(x_test)} test images are right")
    if options.save:
        cnnmath.save(model, options.save)
    return accuracy


if __name__ == "__main__":
    main()
