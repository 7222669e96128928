"""The pages on pseudonyms, longitudinal tables and the search: every example runs and prints what stands there."""

import doctest
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "anonymise"


@pytest.mark.parametrize("name", ["pseudonyms.md", "longitudinal.md", "quality.md", "search.md"])
def test_the_examples_of_a_page_run_as_written(name):
    text = (PAGES / name).read_text(encoding="utf-8")
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, name, name, 0)
    assert len(test.examples) > 5
    found = doctest.DocTestRunner(verbose=False).run(test)
    assert found.failed == 0
