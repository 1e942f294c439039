"""Benchmarks: `python -m bench <case>` from a checkout. Answers are checked before anything is timed."""
