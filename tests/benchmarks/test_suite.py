"""The runner of the benchmark suite: ranks, resuming, the report, and a run from raw rows to
records.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from sklearn_autorec.datasets import make_ctr

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts import one another by name from their folder."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def record(table, model, seed=0, auc=0.7, loss=0.5, **more):
    return {
        "task": "clicks",
        "table": table,
        "rows": 1000,
        "model": model,
        "seed": seed,
        "params": "p",
        "code": None,
        "status": "ok",
        "auc": auc,
        "log_loss": loss,
        "base_log_loss": 0.69,
        "fit_cpu_s": 2.0,
        "bytes": 1000,
        "ms_p50": 1.0,
        **more,
    }


def test_ranks_and_wins():
    from _suite_report import complete, ranks, wins

    scores = pd.DataFrame(
        {"a": [0.9, 0.8], "b": [0.7, 0.8], "c": [0.8, 0.1], "d": [0.5, np.nan]}, index=["t", "u"]
    )
    whole, others = complete(scores)
    assert others == ["d"]
    assert ranks(whole, True).to_numpy().tolist() == [[1, 3, 2], [1.5, 1.5, 3]]
    assert ranks(whole, False).to_numpy().tolist() == [[3, 1, 2], [2.5, 2.5, 1]]
    assert wins(whole, True).loc["a"].tolist() == [0, 1, 2] and wins(whole, False).loc[
        "a"
    ].tolist() == [0, 0, 0]


def test_critical_difference_is_the_published_one():
    from _suite_report import cliques, critical_difference

    # Demsar (2006), table 5: q = 2.569 for four models; his example has 14 tables and a difference
    # of 1.25.
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert cliques([1.0, 1.5, 2.6, 3.5], 1.2) == [(0, 1), (1, 2), (2, 3)]
    assert cliques([1.0, 1.5, 1.9, 4.0], 1.2) == [(0, 2)]


def test_records_survive_an_interruption(tmp_path):
    from _suite_records import append, finished, key_of, read

    path = tmp_path / "deep" / "r.jsonl"
    first, second = record("t", "a"), record("t", "b")
    append(path, first)
    with path.open("a") as file:
        file.write(json.dumps(second)[:30])  # killed while writing
    append(path, record("t", "c"))
    found = read(path)
    assert [r["model"] for r in found] == ["a", "c"]
    assert finished(found, key_of(first), "p") and not finished(found, key_of(second), "p")
    assert not finished(found, key_of(first), "other parameters")
    append(path, {**first, "params": "q"})  # the last one counts
    assert len(read(path)) == 2 and finished(read(path), key_of(first), "q")
    failed = [{**first, "status": "failed"}]
    assert finished(failed, key_of(first), "p") and not finished(
        failed, key_of(first), "p", retry=True
    )


def test_digest_follows_parameters_but_not_the_seed():
    from _suite_records import digest_of_parameters, rests_on_the_package

    from sklearn_autorec import CTRClassifier
    from sklearn_autorec.networks import DeepFM

    a, b = (digest_of_parameters(CTRClassifier(network=DeepFM(), random_state=s)) for s in (0, 1))
    assert a == b != digest_of_parameters(CTRClassifier(network=DeepFM(dropout=0.11)))
    assert rests_on_the_package(CTRClassifier()) and not rests_on_the_package(LogisticRegression())


def made_up_records():
    quality = {"good": 0.8, "LightGBM default": 0.7, "bad": 0.6}
    return [
        record(f"t{t}", m, s, q + 0.01 * s, 1 - q, fit_cpu_s=4.0 if m == "good" else 2.0)
        for t in range(5)
        for m, q in quality.items()
        for s in range(2)
    ]


def test_report(tmp_path):
    from _suite_report import report

    records = made_up_records() + [
        record("t0", "partial"),
        {**record("t1", "partial"), "status": "failed", "error": "E: no"},
    ]
    records[0]["code"] = "old"
    text = report(records, picture=tmp_path / "p.png", code="new")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "good * 0.8050 +- 0.0071 0.2000 +- 0.0000 4.0 0.00 1.00 2" in lines
    assert "good 1.00 1.00 2.00 2.00 1.00" in lines and "bad 3.00 3.00 1.00 1.00 1.00" in lines
    assert "good 5-0 5-0" in lines and "LightGBM default 0-5 5-0" in lines
    assert "Without every table, hence without a rank: partial." in lines
    assert "clicks t1 1000 partial seed 0: E: no" in lines
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert report([]) == "No finished records."


def test_pictures_are_bit_for_bit_the_same(tmp_path):
    from _suite_report import report

    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        report(made_up_records(), picture=path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def make_table(name, rows, seed):
    from _suite import Table

    X, y, _ = make_ctr(rows + 600, n_fields=4, cardinality=6, pairs=1, random_state=7)
    cuts = [slice(0, rows), slice(rows, rows + 300), slice(rows + 300, None)]
    values = {
        f"{k}_{p}": v[c]
        for p, c in zip(("train", "valid", "test"), cuts, strict=True)
        for k, v in zip("Xy", (X, y), strict=True)
    }
    ratings = {f"rating_{p}": 1.0 + values[f"y_{p}"] for p in ("train", "valid", "test")}
    return Table(name, **values, **ratings)


def options(path, models, **more):
    values = {
        "task": ["clicks", "ratings"],
        "tables": ["insteval"],
        "rows": [500],
        "seeds": [0],
        "retry": False,
        "rerun": False,
    }
    return argparse.Namespace(results=path, models=models, **{**values, **more})


def test_a_run_leaves_records_and_goes_on(tmp_path):
    pytest.importorskip("lightgbm")
    from _suite_records import read
    from bench_suite import run

    path = tmp_path / "r.jsonl"
    models = ["one-hot LR", "crossed LR", "LightGBM stopped", "mean"]
    assert run(options(path, models), make_table, out=io.StringIO()) == 5
    assert run(options(path, models), make_table, out=io.StringIO()) == 0
    assert run(options(path, models, seeds=[0, 1]), make_table, out=io.StringIO()) == 5
    found = {(r["task"], r["model"], r["seed"]): r for r in read(path)}
    assert len(found) == 10 and all(r["status"] == "ok" for r in found.values())
    for model in ("one-hot LR", "crossed LR", "LightGBM stopped"):
        r = found["clicks", model, 0]
        assert (
            r["log_loss"] < r["base_log_loss"]
            and r["auc"] > 0.55
            and r["bytes"] > 500
            and r["ms_p50"] > 0
        )
        assert r["n_train"] == 500 and (r["code"] is not None) == (model == "crossed LR")
    assert found["ratings", "mean", 0]["rmse"] == pytest.approx(
        found["ratings", "mean", 0]["base_rmse"]
    )


def test_every_model_can_be_made():
    from _suite_models import GROUPS, TASKS, chosen
    from _suite_records import digest_of_parameters

    for task, models in TASKS.items():
        digests = {name: digest_of_parameters(make(0)) for name, make in models.items()}
        assert len(set(digests.values())) == len(models)  # no two names for the same model
        names = [name for group in GROUPS for name in chosen(task, [group])]
        assert sorted(names) == sorted(models)


def test_validation_rows_go_only_where_they_are_wanted():
    from _suite_models import Alone, takes_validation_rows

    from sklearn_autorec import CTRClassifier

    assert takes_validation_rows(CTRClassifier())
    assert not takes_validation_rows(Alone(CTRClassifier())) and not takes_validation_rows(
        LogisticRegression()
    )


def test_failures_are_recorded_and_unknown_models_refused(tmp_path):
    from _suite_records import read
    from bench_suite import run

    def one_class(name, rows, seed):
        table = make_table(name, rows, seed)
        table.y_train[:] = 0
        return table

    path = tmp_path / "r.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("traceback.print_exc", lambda file: None)
        assert (
            run(options(path, ["one-hot LR"], task=["clicks"]), one_class, out=io.StringIO()) == 1
        )
    assert read(path)[0]["status"] == "failed" and "ValueError" in read(path)[0]["error"]
    with pytest.raises(ValueError, match="no model .*'no such'"):
        run(options(path, ["no such"]), make_table)


@pytest.mark.parametrize("name", ["ml-100k", "bank", "hotel_bookings", "criteo_sample"])
def test_tables_hold_no_leak_and_keep_their_order(name, data_home):
    from _suite import load

    table = load(name, rows=500, data_home=data_home)
    again, other = (
        load(name, rows=500, data_home=data_home),
        load(name, rows=500, seed=1, data_home=data_home),
    )
    pd.testing.assert_frame_equal(table.X_train, again.X_train)
    assert len(table.X_train) == 500 and not table.X_train.equals(other.X_train)
    pd.testing.assert_frame_equal(table.X_test, other.X_test)
    leaks = {"label", "rating", "timestamp", "title", "duration", "arrival", "split_time"}
    assert not leaks & set(table.X_train) and (name != "bank" or "euribor3m" in table.numeric)
    for column in table.X_train:
        assert (table.X_train[column].dtype == "float64") == (column in table.numeric)
    if table.ordered:
        assert (
            table.time_train.max()
            <= table.time_valid.min()
            <= table.time_valid.max()
            <= table.time_test.min()
        )
        assert (np.diff(rankdata(np.asarray(table.time_train).astype("int64"))) >= 0).all()
    assert table.has_ratings == (name == "ml-100k")
