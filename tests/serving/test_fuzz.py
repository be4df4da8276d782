"""Files changed at random: each load refuses with one exception type or gives a model that works.

``python -m pytest tests/serving/test_fuzz.py -m slow`` makes 20,000 changes and 2,000 that know the
structure, the ordinary run 600 and 80. ``AUTOREC_FUZZ=0.2`` makes a share of them."""

import pytest
from fuzz_cases import SHARE, attempt, fuzz, header_of, with_header


def check(counts, n):
    # Each kind of change is tried, most are refused, and some forged files load: the checks behind
    # the checksum were met.
    assert counts.total() == n
    assert counts[("damage", "refused")] > 0.15 * n
    assert counts[("forge", "refused")] > 0.25 * n
    assert counts[("forge", "same")] + counts[("forge", "other")] > 0.02 * n


def test_whole_files_pass_the_same_mill(saved):
    for data, rows, expected in saved.values():
        start, header = header_of(data)
        assert attempt(data, rows, expected, "same") == "same"
        assert attempt(with_header(data, start, header), rows, expected, "same") == "same"


@pytest.mark.parametrize("n", [600, pytest.param(int(20_000 * SHARE), marks=pytest.mark.slow)])
def test_changed_files_are_refused_or_work(n, saved):
    check(fuzz(saved, n, seed=n), n)
