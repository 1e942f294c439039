"""Data sets: handwritten digits inside the package, readers for MNIST, Fashion-MNIST and CIFAR-10."""

from .cifar import cifar10
from .digits import load_digits
from .idx import fashion_mnist, mnist
from .images import Images

__all__ = ["Images", "cifar10", "fashion_mnist", "load_digits", "mnist"]
