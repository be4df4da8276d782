"""The service of examples/serve_http.py: its answers, what it refuses, how it changes models."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from example_modules import EXAMPLES, example_module
from http_cases import BIG, ROW, Client, as_fitted, classifier, put, table, until
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec import RatingRegressor
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")
uvicorn = pytest.importorskip("uvicorn", reason="the service needs the extra [serve]")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two models of the same table, and one whose table lacks a column."""
    folder, (X, y) = tmp_path_factory.mktemp("models"), table()
    for name, columns, seed in (("a", [], 0), ("b", [], 1), ("narrow", ["price"], 0)):
        save(classifier(X.drop(columns=columns), y, seed), folder / name)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module", autouse=True)
def service():
    with example_module("serve_http") as module:
        yield module


@pytest.fixture
def served(files, tmp_path):
    put(files["a"], tmp_path / "served")
    return tmp_path / "served"


@pytest.fixture
def watched(service, served):
    return service.WatchedModel(served, interval=0.01)


@pytest.fixture
def client(service, watched):
    """Of the service in a thread of this process."""
    app = service.create_app(watched, max_rows=50, max_bytes=20_000)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with service.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        client = Client(listening.getsockname()[1])
        yield client
        client.connection.close()
        server.should_exit = True
        thread.join()


def test_a_row_and_a_batch_get_what_the_model_gives(client, files):
    model = load(files["a"])
    rows = [ROW, {**ROW, "user": "bob", "item": BIG, "tags": []}, {**ROW, "item": BIG + 1}]
    expected = model.predict_proba(as_fitted(rows))
    assert len({*expected[:, 1]}) == 3
    status, answer = client.predict(rows)
    assert status == 200 and answer["classes"] == ["no", "yes"]
    assert (np.array(answer["probabilities"]) == expected).all()
    for row, probabilities in zip(rows, expected, strict=True):
        assert client.predict(row)[1]["probabilities"] == probabilities.tolist()
    many = client.predict(rows * 15)[1]["probabilities"]  # in another thread
    assert (np.array(many) == np.tile(expected, (15, 1))).all()


def test_integers_beside_null_stay_exact(client):
    alone = client.predict({**ROW, "item": BIG})[1]["probabilities"]
    neighbour = client.predict({**ROW, "item": BIG - 1})[1]["probabilities"]
    both = client.predict([{**ROW, "item": BIG}, {**ROW, "item": None}])[1]["probabilities"]
    assert both[0] == alone != neighbour


def test_null_is_missing_and_new_values_are_answered(client, files):
    status, answer = client.predict(dict.fromkeys(ROW))
    X = as_fitted([ROW]).astype(object)
    X.loc[0] = None
    assert status == 200
    assert answer["probabilities"] == load(files["a"]).predict_proba(X)[0].tolist()
    status, answer = client.predict({**ROW, "user": "zoe", "item": 10**30})
    assert status == 200 and np.isfinite(answer["probabilities"]).all()


@pytest.mark.parametrize(
    ("column", "value", "takes"),
    [
        ("user", 3, "text"),
        ("user", ["ann"], "text"),
        ("user", {"name": "ann"}, "text"),
        ("item", "7", "a number"),
        ("item", True, "a number"),
        ("flag", "true", "a number or true or false"),
        ("price", "2.5", "a number"),
        ("price", True, "a number"),
        ("price", 1e39, "a number"),
        ("price", 10**400, "a number"),
        ("tags", "a", None),
        ("tags", [["a"]], "a list of text"),
        ("tags", [1], "a list of text"),
        ("words", 3, "text that is split"),
        ("when", 1_767_225_600, "ISO 8601 text without a zone"),
        ("when", "5 January", "ISO 8601 text without a zone"),
        ("when", "2026-01-05T10:00:00+01:00", "ISO 8601 text without a zone"),
        ("zoned", "2026-01-05T10:00:00", "ISO 8601 text with a zone"),
        ("took", 300, "a duration"),
        ("took", "300", "a duration"),
    ],
)
def test_wrong_types_are_refused_by_name(client, column, value, takes):
    if takes is None:  # text is split there
        assert client.predict({**ROW, column: value})[0] == 200
        return
    status, answer = client.predict([ROW, {**ROW, column: value}])
    (wrong,) = answer["detail"]
    assert status == 422 and wrong["loc"] == ["body", 1, column]
    assert f"Column {column!r} takes" in wrong["msg"] and takes in wrong["msg"]


def test_missing_and_unknown_columns_are_refused_by_name(client):
    row = {name: value for name, value in ROW.items() if name != "price"}
    status, answer = client.predict({**row, "prize": 2.5})
    assert status == 422
    assert [wrong["loc"] for wrong in answer["detail"]] == [
        ["body", 0, "price"],
        ["body", 0, "prize"],
    ]
    assert "give null" in answer["detail"][0]["msg"] and "no column" in answer["detail"][1]["msg"]
    status, answer = client.predict([row] * 40)
    assert status == 422 and len(answer["detail"]) == 20


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[" * 5000, 400),
        ('{"user": NaN}', 400),
        (b"\xff\xfe", 400),
        ("", 400),
        (json.dumps(ROW)[:-1] + ', "user": "bob"}', 400),
        ("3", 422),
        ("[]", 422),
        ("[3]", 422),
        (json.dumps([ROW] * 51), 413),
        (" " * 20_001, 413),
    ],
)
def test_bodies_that_are_no_rows_are_refused(client, body, status):
    got, answer = client.predict(body)
    assert got == status and answer["detail"]
    assert client.predict(ROW)[0] == 200


def test_failures_of_the_model_are_told_apart_from_those_of_the_request(
    client, watched, monkeypatch
):
    def fail(X):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(watched.served.model, "predict_proba", fail, raising=False)
    status, answer = client.predict(ROW)
    assert status == 500 and "out of memory" in answer["detail"]
    assert 'autorec_errors_total{reason="failed"} 1' in client.metrics()


def test_regressors_and_pipelines_are_served(service, tmp_path):
    X, y = table()
    options = {"wide": None, "target_statistics": False, "max_epochs": 2, "random_state": 0}
    ratings = RatingRegressor(network="fm", **options).fit(X[["user", "item"]], (y == "yes") * 1.0)
    numbers = X[["price"]].assign(other=np.arange(len(X)))
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, y)
    for model, rows in (
        (ratings, [{"user": "ann", "item": 7}, {"item": None, "user": "bob"}]),
        (line, [{"price": 1, "other": 3}, {"price": 1.5, "other": 4}]),
    ):
        save(model, tmp_path / "model")
        served = service.WatchedModel(tmp_path / "model").served
        predict = model.predict if served.classes is None else model.predict_proba
        expected = predict(pd.DataFrame(rows)[list(model.feature_names_in_)])
        assert served.predict(rows) == expected.tolist()
    with pytest.raises(service.Refused) as refused:
        service.predictions(served, [{"price": "much", "other": 3}])
    assert refused.value.status == 422 and "much" in refused.value.detail


def test_models_without_names_of_columns_are_refused(service, tmp_path):
    X, y = table()
    save(LogisticRegression().fit(X[["price"]].to_numpy(), y), tmp_path / "model")
    with pytest.raises(ValueError, match="without column names"):
        service.WatchedModel(tmp_path / "model")


def test_numbers_of_pipelines_keep_their_dtypes():
    from _http_rows import plain

    assert plain([1, 2]).dtype == np.int64
    assert plain([1, None]).tolist() == [1, None]
    assert plain([1.5, 2, None]).dtype == np.float64
    assert plain([1.5, BIG]).tolist() == [1.5, BIG]
    assert plain([2**70, 1]).tolist() == [2**70, 1]
    assert plain(["a", 1]).tolist() == ["a", 1]


def test_vectors_and_times_of_which_fields_are_derived_are_taken():
    from _http_rows import columns_of

    times = pd.date_range("2026-01-01", periods=3, freq="h")
    X = pd.DataFrame({"v": [[0.5, 1.0], [2.5, 3.0], None], "when": times})
    vector, when = columns_of(FieldEncoder(time_features=["age"]).fit(X))
    assert vector.cell([1, 2.5]) == [1, 2.5] and vector.cell(None) is None
    assert vector.takes == "a list of 2 numbers"
    for wrong in ([1.0], [1.0, "2"], "1", 3.5, [1e39, 0.0]):
        with pytest.raises(ValueError):
            vector.cell(wrong)
    assert when.cell("2026-01-05T10:00:00") == pd.Timestamp("2026-01-05 10:00")
    with pytest.raises(ValueError):
        when.cell(5)


def test_a_replacement_takes_over(client, files, served):
    before = client.predict(ROW)[1]
    assert client.get("/health")["model"]["digest"] == before["model"]
    put(files["b"], served)
    until(lambda: client.get("/health")["model"]["version"] == 2)
    after = client.predict(ROW)[1]
    assert after["model"] != before["model"]
    expected = load(files["b"]).predict_proba(as_fitted([ROW]))[0]
    assert after["probabilities"] == expected.tolist() != before["probabilities"]
    text = client.metrics()
    assert f'digest="{after["model"]}",version="2"' in text
    assert "autorec_model_reloads_total 1" in text and "autorec_model_reload_failing 0" in text


@pytest.mark.parametrize("fault", ["damaged", "gone", "other columns", "other classes"])
def test_a_broken_replacement_leaves_the_old_model(client, files, served, fault):
    before = client.predict(ROW)[1]
    if fault == "damaged":
        served.with_suffix(".new").write_bytes(files["b"].read_bytes()[:-1])
        os.replace(served.with_suffix(".new"), served)
    elif fault == "gone":
        served.unlink()
    elif fault == "other columns":
        put(files["narrow"], served)
    else:
        X, y = table()
        save(classifier(X, (y == "yes").astype(int), 0), served)
    until(lambda: client.get("/health")["status"] == "old model")
    told = {"damaged": "ModelFileError", "gone": "FileNotFoundError", "other columns": "price"}
    assert told.get(fault, "classes [0, 1]") in client.get("/health")["reload_error"]
    assert client.predict(ROW)[1] == before
    text = client.metrics()
    assert "autorec_model_reload_failing 1" in text
    assert "autorec_model_reload_failures_total 1" in text
    put(files["b"], served)
    until(lambda: client.get("/health")["status"] == "ok")
    assert client.predict(ROW)[1]["model"] != before["model"]


def test_a_file_that_is_written_in_place_is_read_when_it_is_complete(watched, files, served):
    data = files["b"].read_bytes()
    with served.open("wb") as file:
        file.write(data[:1000])
        file.flush()
        watched.look()
        assert watched.error is not None and watched.served.version == 1
        file.write(data[1000:])
    watched.look()
    assert watched.error is None and watched.served.version == 2 and watched.failures == 1


def test_a_file_that_was_only_touched_or_put_back_is_no_new_model(watched, files, served):
    os.utime(served, ns=(1, 1))
    watched.look()
    assert watched.served.version == 1
    put(files["narrow"], served)
    watched.look()
    assert watched.error is not None
    put(files["a"], served)
    watched.look()
    assert watched.error is None and watched.served.version == 1


def test_metrics_count_requests_and_their_time(client):
    client.predict(ROW)
    client.predict([ROW] * 3)
    client.predict({})
    client.predict("{")
    lines = client.metrics().splitlines()
    for expected in (
        'autorec_requests_total{status="200"} 2',
        'autorec_requests_total{status="400"} 1',
        'autorec_requests_total{status="422"} 1',
        'autorec_errors_total{reason="rows"} 1',
        'autorec_errors_total{reason="no JSON"} 1',
        "autorec_rows_total 4",
        'autorec_request_seconds_bucket{rows="one",le="+Inf"} 1',
        'autorec_request_seconds_count{rows="many"} 1',
    ):
        assert expected in lines
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    samples = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    suffixes = ("_bucket", "_sum", "_count")
    bare = {next((s.removesuffix(e) for e in suffixes if s.endswith(e)), s) for s in samples}
    assert bare == described


def test_labels_of_metrics_are_escaped():
    from _http_metrics import line

    assert line("x", 1, file='a"b\\c\nd') == 'autorec_x{file="a\\"b\\\\c\\nd"} 1'


def test_the_columns_are_told(client):
    columns = client.get("/model")["columns"]
    assert list(columns) == list(ROW)
    assert columns["price"] == "a number" and "with a zone" in columns["zoned"]


@pytest.fixture
def process(served):
    """The service as a process of its own, and its port."""
    command = [sys.executable, str(EXAMPLES / "serve_http.py"), str(served), "--port", "0"]
    path = os.pathsep.join([str(EXAMPLES.parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--interval", "0.02"], stdout=subprocess.PIPE, text=True, env=environment
    )
    yield process, int(process.stdout.readline().rsplit(":", 1)[1])
    process.kill()
    process.wait()
    process.stdout.close()


def test_no_request_is_lost_while_a_process_changes_its_model(process, files, served):
    process, port = process
    answers, stop = [], threading.Event()

    def work():
        client = Client(port)
        while not stop.is_set():
            answers.append(client.predict(ROW))
        client.connection.close()

    clients = [threading.Thread(target=work) for _ in range(2)]
    for client in clients:
        client.start()
    expected = {}
    try:
        for name in ("b", "a"):
            put(files[name], served)
            n = len(answers)
            p = load(files[name]).predict_proba(as_fitted([ROW]))[0].tolist()
            expected[json.dumps(p)] = name
            until(lambda p=p, n=n: any(found.get("probabilities") == p for _, found in answers[n:]))
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert {status for status, _ in answers} == {200}
    assert {expected[json.dumps(found["probabilities"])] for _, found in answers} == {"a", "b"}
    assert len({found["model"] for _, found in answers}) == 2
    if os.name == "posix":
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
