"""The page on privacy models: its example runs, and it names every model."""

import doctest
from pathlib import Path

import anonymise
from anonymise.models import Model, TableModel

PAGE = Path(__file__).parents[2] / "docs" / "anonymise" / "models.md"


def test_the_example_of_the_page_runs():
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 8
    assert result.failed == 0


def test_the_page_names_every_model():
    text = PAGE.read_text(encoding="utf-8")
    exported = [getattr(anonymise, name) for name in anonymise.__all__]
    models = [e for e in exported if isinstance(e, type) and e not in (Model, TableModel) and hasattr(e, "least_rows")]
    assert len(models) == 11
    for model in models:
        assert f"`{model.__name__}(" in text
