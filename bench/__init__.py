"""`python -m bench <case>` from a checkout: the benchmarks of the cnnmath that Python finds, as `cnnmath bench`."""
