"""The script that counts what searches do, on searches whose passes and bytes are known."""

import sys
from pathlib import Path

import pytest

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import MDE, PEP
from sklearn_autorec.engine import _problem
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFeature
from sklearn_autorec.losses import AutoLoss
from sklearn_autorec.nn import FieldNetwork

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
N_ROWS = 320


@pytest.fixture(scope="module")
def script():
    """The module of the script, which imports others by name from its folder."""
    sys.path.insert(0, str(FOLDER))
    import bench_search_work

    yield bench_search_work
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def table():
    X, y, _ = make_ctr(N_ROWS, n_fields=4, cardinality=6, pairs=1, random_state=0)
    return X, y


def test_a_search_of_one_training_passes_the_rows_once_an_epoch(script, table):
    work, _ = script.work_of(PEP(), *table, epochs=3)
    assert work.forward == work.backward == 3 * N_ROWS and work.scored == 0


def test_rows_of_the_search_are_added_to_those_of_the_weights(script, table):
    method = AutoField(arch_every=2, warmup=0.0, search_fraction=0.25)
    work, _ = script.work_of(method, *table, epochs=2)
    weights = 2 * 0.75 * N_ROWS
    assert weights < work.forward == work.backward <= 2 * weights


def test_gradients_that_end_before_the_network_are_no_pass_back(script, table):
    work, _ = script.work_of(AutoLoss(), *table, epochs=4)
    assert 0 < work.backward < work.forward


def test_candidates_are_counted_with_the_rows_that_judge_them(script, table):
    method = AutoFeature(max_evaluations=3, n_initial=3, search_fraction=0.25)
    work, _ = script.work_of(method, *table, epochs=1)
    assert work.forward >= 3 * 0.75 * N_ROWS and work.scored >= 3 * 0.25 * N_ROWS


def test_rules_do_nothing_and_thresholds_are_weights(script, table):
    weights, held, served = script.plain_bytes(*table)
    work, of_rule = script.work_of(MDE(), *table, epochs=2)
    assert (work.forward, work.weights, work.held) == (0, 0, 0) and of_rule < served
    work, _ = script.work_of(PEP(), *table, epochs=2)
    assert 1.5 * weights < work.weights < 2 * weights  # a threshold for each number of the tables
    assert held == 3 * weights and work.held == pytest.approx(3 * work.weights, rel=0.01)


def test_what_was_watched_is_left_as_it_was(script, table):
    before = FieldNetwork.__call__, _problem.train, PEP.search
    script.work_of(PEP(), *table, epochs=1)
    assert (FieldNetwork.__call__, _problem.train, PEP.search) == before
