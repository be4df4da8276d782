"""Searches of several processes find what one finds."""

import pickle

import pytest
from process_cases import assert_found_alike, found, started
from search_cases import SEARCHES

from sklearn_autorec.base._method import known_methods

TIMEOUT = 240  # seconds after which processes are ended that wait for each other


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes have found, each by itself."""
    folder = tmp_path_factory.mktemp("together")
    processes = started("search", folder, 2)
    try:
        errors = [process.communicate(timeout=TIMEOUT)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.mark.parametrize("name", SEARCHES)
def test_two_processes_find_what_one_finds(together, name):
    first, second = (each[name] for each in together)
    assert first["architecture"] == second["architecture"]
    alone = found(SEARCHES[name](False))
    for each in (first, second):
        assert_found_alike(each, alone)


def test_every_method_that_says_so_is_tried():
    own = [m for m in known_methods().values() if m.__module__.startswith("sklearn_autorec.")]
    sharing = {m.__name__ for m in own if m.distributes} - {"FixedArchitecture"}
    assert sharing == {name.partition(",")[0] for name in SEARCHES}
