import pytest

# prv-accountant takes seconds for each of the other events, and minutes for all: `pytest -m slow` runs them.
QUICK_FOR_PRV = {"gaussian"}


def pytest_collection_modifyitems(items):
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        event = params.get("event")
        if params.get("make") == "prv" and event is not None and event.kind not in QUICK_FOR_PRV:
            item.add_marker(pytest.mark.slow)
