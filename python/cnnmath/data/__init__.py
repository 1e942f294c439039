"""Data sets: handwritten digits inside the package, MNIST, Fashion-MNIST, CIFAR-10, folders of images; batches,
augmentation."""

from .cifar import cifar10, read_cifar
from .digits import load_digits
from .files import ImageFolder, read_image
from .framing import framed_as_mnist
from .idx import fashion_mnist, mnist, read_idx
from .images import Images
from .loader import DataLoader
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToDtype, Transform

__all__ = [
    "Compose",
    "DataLoader",
    "ImageFolder",
    "Images",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "ToDtype",
    "Transform",
    "cifar10",
    "fashion_mnist",
    "framed_as_mnist",
    "load_digits",
    "mnist",
    "read_cifar",
    "read_idx",
    "read_image",
]
