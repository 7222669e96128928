"""Tables larger than memory: the search needs distinct tuples with their counts, never the rows.

A table is read twice: once to count the distinct combinations of its quasi-identifiers (by the database or the engine
that holds it, where there is one), and once, chunk by chunk, to be recoded.

>>> import pandas as pd
>>> from anonymise import KAnonymity, Schema
>>> from anonymise.large import plan_release, release_to_csv
>>> schema = Schema.from_dict({"columns": {
...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
... }})
>>> chunks = [pd.DataFrame({"age": [31, 34]}), pd.DataFrame({"age": [38, 62, 65]})]
>>> plan = plan_release(chunks, schema, models=[KAnonymity(2)])
>>> dict(plan.node)
{'age': 1}
>>> sorted(label for part in plan.release(chunks) for label in part["age"])
['[30, 40)', '[30, 40)', '[30, 40)', '[60, 70)', '[60, 70)']
"""

from anonymise.large.plan import Plan, plan_release
from anonymise.large.sources import SqlTable
from anonymise.large.writing import release_to_csv

__all__ = ["Plan", "SqlTable", "plan_release", "release_to_csv"]
