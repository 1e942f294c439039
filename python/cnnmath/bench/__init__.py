"""Benchmarks: `cnnmath bench <case>`. Answers are checked before anything is timed.

Modules that make sessions for worker processes (see race.py) import nothing of cnnmath but this package, except inside
the functions that measure cnnmath itself: a peer's process must not load cnnmath's core.
"""
