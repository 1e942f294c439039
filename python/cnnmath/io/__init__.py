"""Weights and states are saved and loaded as safetensors, a plain format that others read and that runs no code."""

from .files import append_bytes, write_bytes
from .weights import load, save

__all__ = ["append_bytes", "load", "save", "write_bytes"]
