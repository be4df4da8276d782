"""Records of the suite: one JSON line for each (table, rows, model, seed), so that a run can be
interrupted and go on.

A record that rests on other parameters than those asked for now is stale: it does not count as
finished. The last of several records of the same key counts."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import sklearn_autorec

PACKAGES = (
    "scikit-learn",
    "numpy",
    "pandas",
    "scipy",
    "torch",
    "skorch",
    "lightgbm",
    "catboost",
    "tabm",
    "sklearn-autorec",
)
KEY = ("task", "table", "rows", "model", "seed")
DONE = ("ok", "failed")


def versions():
    """Python and the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def digest_of_parameters(estimator):
    """Hash of the class and all parameters, defaults included; the seed is part of the key and does
    not count.
    """
    params = {
        name: _plain(value)
        for name, value in estimator.get_params(deep=True).items()
        if not name.split("__")[-1] == "random_state"
    }
    text = json.dumps([type(estimator).__qualname__, params], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value):
    """A text that is the same in every process."""
    if hasattr(value, "get_params"):
        return type(value).__qualname__  # its parameters are listed one by one
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def rests_on_the_package(estimator):
    """Whether the estimator, or a part of it, is one of this package."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(type(part).__module__.startswith(f"{sklearn_autorec.__name__}.") for part in parts)


def digest_of_code():
    """Hash of the package's own source, on which the figures of its estimators rest."""
    root = Path(sklearn_autorec.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def key_of(record):
    """What tells records apart."""
    return tuple(record[name] for name in KEY)


def read(path):
    """All records of a file, the last one of each key. A line cut off by an interruption is left
    out.
    """
    found = {}
    path = Path(path)
    if not path.exists():
        return []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            found[key_of(record)] = record
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return list(found.values())


def append(path, record):
    """Write one record in one piece; several processes may share the file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record) + "\n"
    # A run that was killed while writing leaves half a line, which must not swallow this one.
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def finished(records, key, params, retry=False):
    """Whether a record with these parameters is there; with ``retry`` failed ones do not count."""
    wanted = ("ok",) if retry else DONE
    return any(
        key_of(record) == key and record["params"] == params and record["status"] in wanted
        for record in records
    )
