"""python -m bench <case> [options]"""

from __future__ import annotations

import sys
from importlib import import_module

CASES = {
    "peak": "the machine's peak of multiply-adds and its memory bandwidth",
    "gemm": "matrix products against NumPy's",
    "conv": "single convolution layers against PyTorch's",
    "steps": "training steps of whole networks against NumPy",
    "learning": "loss curves and accuracy on real data against PyTorch's",
    "peers": "training steps and inference of whole networks against PyTorch",
}


def main() -> None:
    case, *arguments = sys.argv[1:] or ["--help"]
    if case not in CASES:
        print(__doc__, *(f"  {name:10}{text}" for name, text in CASES.items()), sep="\n")
        raise SystemExit(0 if case in ("-h", "--help") else 2)
    import_module(f"bench.{case}").main(arguments)


if __name__ == "__main__":
    main()
