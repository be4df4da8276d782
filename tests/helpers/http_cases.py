"""A table with a column of each kind, models of it, and a client of the HTTP service."""

import http.client
import json
import os
import time

import numpy as np
import pandas as pd

from sklearn_autorec import CTRClassifier
from sklearn_autorec.preprocessing import FieldEncoder

BIG = 2**60 + 1  # its neighbours are the same float
ROW = {
    "user": "ann",
    "item": 7,
    "flag": True,
    "price": 2.5,
    "tags": ["a", "b"],
    "words": "x|y",
    "when": "2026-01-05T10:00:00",
    "zoned": "2026-01-05T10:00:00+01:00",
    "took": "0 days 00:05:00",
}


def table(n=300):
    rng = np.random.default_rng(0)
    items = np.array([7, 8, BIG - 1, BIG, BIG + 1])
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(10**6, size=n), "s")
    X = pd.DataFrame(
        {
            "user": rng.choice(["ann", "bob", "cleo"], n),
            "item": rng.choice(items, n),
            "flag": rng.random(n) < 0.5,
            "price": rng.normal(size=n),
            "tags": [list(rng.choice(["a", "b", "c"], rng.integers(3))) for _ in range(n)],
            "words": rng.choice(["x", "x|y", "y|z"], n),
            "when": when,
            "zoned": when.tz_localize("Europe/Berlin"),
            "took": pd.to_timedelta(rng.integers(10**4, size=n), "s"),
        }
    )
    return X, np.where(rng.random(n) < 0.5, "no", "yes")


def classifier(X, y, seed):
    encoder = FieldEncoder(
        categorical_features={"item": "id"}, sequence_features={"tags": ",", "words": "|"}
    )
    options = {"wide": None, "target_statistics": False, "max_epochs": 2, "lr": 0.05}
    model = CTRClassifier(
        network="fm", encoder=encoder, early_stopping=False, random_state=seed, **options
    )
    return model.fit(X, y)


def as_fitted(rows):
    """Rows as a table with the dtypes of `table`."""
    X, _ = table(2)
    found = pd.DataFrame(rows)[list(X)]
    found["when"] = pd.to_datetime(found["when"])
    found["zoned"] = pd.to_datetime(found["zoned"]).dt.tz_convert("Europe/Berlin")
    found["took"] = pd.to_timedelta(found["took"])
    return found


def put(source, target):
    """Replace a file at once by a copy of another."""
    copy = target.with_suffix(".new")
    copy.write_bytes(source.read_bytes())
    for _ in range(200):
        try:
            return os.replace(copy, target)
        except PermissionError:  # on Windows, while the service reads the old one
            time.sleep(0.05)
    raise AssertionError(f"{target} stays open")


class Client:
    """A connection that is kept."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def predict(self, rows):
        """Status and answer to rows, or to a body as it is."""
        body = rows if isinstance(rows, str | bytes) else json.dumps(rows)
        status, answer = self.ask("POST", "/predict", body)
        return status, json.loads(answer)

    def get(self, path):
        return json.loads(self.ask("GET", path)[1])

    def metrics(self):
        return self.ask("GET", "/metrics")[1]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
