import pytest
from packed_cases import EqualRows

from sklearn_autorec.nn import FORMS


@pytest.fixture
def equal_rows(monkeypatch):
    """The form of the tests, which stores equal rows once, is one that `pack_table` chooses
    from.
    """
    monkeypatch.setitem(FORMS, EqualRows.form, EqualRows)
