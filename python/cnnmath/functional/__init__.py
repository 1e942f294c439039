"""Stateless operations on arrays, with the names, arguments and meaning of torch.nn.functional.

Each takes NumPy arrays and gives NumPy arrays; inside a traced function they take and give symbolic tensors.
"""

from .activations import relu

__all__ = ["relu"]
