"""The page on recoding class by class: its example runs, and it names every algorithm."""

import doctest
from pathlib import Path

from anonymise.by_class import ALGORITHMS

PAGE = Path(__file__).parents[2] / "docs" / "anonymise" / "local.md"


def test_the_example_of_the_page_runs():
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 8
    assert result.failed == 0


def test_the_page_names_every_algorithm():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f'`"{algorithm}"`' in text for algorithm in ALGORITHMS)
