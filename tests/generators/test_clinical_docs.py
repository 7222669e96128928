"""The page on clinical data: each of its schemas is read, generates, and obeys itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from generators import Domain, decode, encode
from generators.encoding import check_decodable
from generators.rules import any_broken, forbidden_codes, known_cliques
from privacy import Schema

PAGE = Path(__file__).parents[2] / "docs" / "generators" / "clinical-data.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_has_examples():
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("text", EXAMPLES, ids=[str(i) for i in range(len(EXAMPLES))])
def test_a_schema_of_the_page_generates_tables_that_obey_it(text):
    schema = Schema.from_dict(tomllib.loads(text))
    check_decodable(schema)
    domain = Domain.from_schema(schema)
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 4000) for size in domain.n_codes], axis=1)
    kept = codes[~any_broken(forbidden_codes(schema), codes, domain)]
    table = decode(kept, schema, rng=rng)
    schema.validate(table)
    assert np.array_equal(encode(table, schema), kept)
    assert all(set(clique) <= set(domain) for clique in known_cliques(schema))
