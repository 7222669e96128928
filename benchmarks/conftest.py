"""Scripts that benchmarks start are no modules with examples to try."""

collect_ignore = [
    "_generator_run.py",
    "_generator_tables.py",
    "_mbi_mst.py",
    "_mpyc_tasks.py",
    "_online_dealer.py",
    "_smpc_pair.py",
    "_smpc_tasks.py",
    "_federated_oracles.py",
    "_learning_federation.py",
    "compare_federated.py",
    "compare_generators.py",
    "compare_training.py",
    "measure_hub_lines.py",
    "measure_large_tables.py",
]
