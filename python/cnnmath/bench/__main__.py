"""cnnmath bench <case> [options]"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

CASES = {
    "steps": "training steps of whole networks against NumPy",
    "peers": "training and inference against PyTorch, ONNX Runtime, OpenVINO",
    "profile": "each op and pass of a network, as a fraction of the machine's peak",
    "peak": "the machine's peak of multiply-adds and its memory bandwidth",
    "gemm": "matrix products against NumPy's",
    "conv": "single convolution layers against PyTorch's",
    "cliffs": "a random sweep of convolution layers against PyTorch's",
    "learning": "loss curves and accuracy on real data against PyTorch's",
}


def main(arguments: Sequence[str] | None = None) -> None:
    case, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if case not in CASES:
        print(__doc__, *(f"  {name:10}{text}" for name, text in CASES.items()), sep="\n")
        raise SystemExit(0 if case in ("-h", "--help") else 2)
    import_module(f".{case}", __package__).main(rest)


if __name__ == "__main__":
    main()
