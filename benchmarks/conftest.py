"""Scripts that benchmarks start are no modules with examples to try."""

collect_ignore = ["_mpyc_tasks.py", "_smpc_pair.py", "_smpc_tasks.py"]
