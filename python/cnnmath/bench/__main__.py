"""cnnmath bench <case> [options]"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

CASES = {
    "ops": "single ops, forward and backward, against NumPy",
    "steps": "training steps of whole networks against NumPy",
    "peers": "training and inference against PyTorch, ONNX Runtime, OpenVINO",
    "profile": "each op and pass of a network, as a fraction of the machine's peak",
    "peak": "the machine's peak of multiply-adds and its memory bandwidth",
    "gemm": "matrix products against NumPy's",
    "conv": "single convolution layers against PyTorch's",
    "scaling": "threads, batch, channels and image size, against PyTorch's",
    "memory": "what training takes against PyTorch's, and against what the plan says",
    "untuned": "networks that no kernel was made for, against PyTorch's",
    "overheads": "the smallest calls, the smallest step, the import",
    "cliffs": "a random sweep of convolution layers against PyTorch's",
    "learning": "loss curves and accuracy on real data against PyTorch's",
}


# Without a case: a look at the whole, in a minute.
BRIEF = ["steps", "--networks", "lenet5", "mnist_cnn", "resnet20", "--rounds", "3", "--seconds", "0.3"]


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    case, *rest = given or BRIEF
    if case in CASES:
        import_module(f".{case}", __package__).main(rest)
    if case not in CASES or not given:
        if not given:
            print()
        print(__doc__, *(f"  {name:10}{text}" for name, text in CASES.items()), sep="\n")
    if case not in CASES:
        raise SystemExit(0 if case in ("-h", "--help") else 2)


if __name__ == "__main__":
    main()
