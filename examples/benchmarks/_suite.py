"""The real tables of the suite, split and typed the same way for every learner.

``tables()`` lists them, ``load(name, rows, seed)`` reads one. Numeric columns are floats
(``integers=True`` keeps whole numbers as integers), all others text; missing values are NaN. Labels
and what is known only after the event stay out of X:

- `ml-1m` and `ml-100k` without titles and times, `bank` without `duration`; tables whose meta.json
  names ``fields`` and ``labels`` have exactly the fields.
- `criteo_sample` and `avazu_sample` come with 1,000 and 900 test rows, too few to tell learners
  apart. They are pooled and cut 60/10/30 by a fixed seed.
- `amazon_beauty_seq` is left out: it holds positives only, so that a label would have to be made up
  by drawing negatives, and the figures would be those of the draw.

``rows`` keeps a random subset of the training rows, in their order (a tail would measure drift
instead of the number of rows, and hold only the last users where rows lie user by user), and as
large a share of the validation rows. Test rows are never cut."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_autorec.datasets import get_data_home

POOLED_SHARES = (0.6, 0.1)
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Source:
    """How a folder of the data is read. What is None or empty stands in its meta.json."""

    # The column of interactions.parquet that says the part; None: a file per part.
    split: str | None = None
    drop: tuple[str, ...] = ()  # neither features nor labels
    time: str | None = None  # the column that orders the rows, if it is not a feature
    pooled: bool = False  # parts are pooled and cut anew
    ordered: bool = False  # later parts are later in time


SOURCES = {
    "frappe_x1": Source(),
    "ml-1m": Source(
        split="split_random",
        drop=("title", "pos_in_user", "n_in_user", "last_timestamp", "split_user_time"),
    ),
    "ml-100k": Source(split="split_time", drop=("title",), time="timestamp", ordered=True),
    "criteo_sample": Source(pooled=True),
    "avazu_sample": Source(pooled=True),
    "adult": Source(),
    "bank": Source(drop=("duration",)),
    "credit_default": Source(),
    "hotel_bookings": Source(time="arrival", ordered=True),
    "insteval": Source(),
    "kuairand_feedback": Source(time="time_ms", ordered=True),
    "xmarket_ratings": Source(),
}


@dataclass(frozen=True)
class Table:
    """One table: features, 0/1 labels (y), ratings where there are some, and times where rows have
    one.

    Parts lie in their original order. ``time`` is the name of the time column, which is no feature;
    ``time_train`` and so on hold its values, ``ordered`` says that the parts follow one another in
    time."""

    name: str
    X_train: pd.DataFrame
    y_train: np.ndarray
    X_valid: pd.DataFrame
    y_valid: np.ndarray
    X_test: pd.DataFrame
    y_test: np.ndarray
    numeric: tuple[str, ...] = ()
    time: str | None = None
    ordered: bool = False
    time_train: pd.Series | None = None
    time_valid: pd.Series | None = None
    time_test: pd.Series | None = None
    rating_train: np.ndarray | None = None
    rating_valid: np.ndarray | None = None
    rating_test: np.ndarray | None = None

    @property
    def has_ratings(self):
        """Whether there are rating targets."""
        return self.rating_train is not None


def tables(ratings=False):
    """Names of all tables, or of those with ratings."""
    return [
        n
        for n in SOURCES
        if not ratings or n in ("ml-1m", "ml-100k", "insteval", "xmarket_ratings")
    ]


def available(data_home=None):
    """Names of the tables whose folders are there."""
    home = Path(get_data_home(data_home))
    return [name for name in SOURCES if (home / name / "meta.json").is_file()]


def as_text(column):
    """Values as text, missing ones as NaN."""
    return column.astype("string").astype(object).where(column.notna(), np.nan).astype("str")


def as_number(column, integers):
    """Floats; with ``integers`` whole-number types without missing values as int64."""
    if integers and pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any():
        return column.astype("int64")
    return column.astype("float64")


def _parts(folder, source):
    """The three raw parts as frames."""
    if source.split is not None:
        whole = pd.read_parquet(folder / "interactions.parquet")
        return [whole[whole[source.split] == part].drop(columns=source.split) for part in PARTS]
    parts = [pd.read_parquet(folder / f"{part}.parquet") for part in PARTS]
    if not source.pooled:
        return parts
    whole = pd.concat(parts, ignore_index=True)
    order = np.random.default_rng(0).permutation(len(whole))
    cuts = np.cumsum([round(share * len(whole)) for share in POOLED_SHARES])
    return [whole.iloc[np.sort(rows)] for rows in np.split(order, cuts)]


def _kept(n_rows, wanted, rng):
    """Positions of a random subset, in order."""
    if wanted >= n_rows:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, wanted, replace=False))


def load(name, rows=20_000, seed=0, *, integers=False, data_home=None):
    """Read a table.

    Parameters
    ----------
    name : str
        One of ``tables()``.
    rows : int or None, default=20_000
        Training rows at most; None keeps all.
    seed : int, default=0
        Draws the rows. It changes nothing where no rows are left out.
    integers : bool, default=False
        Keep whole numbers as integers instead of floats.
    data_home : path-like, default=None
        Folder of the tables; None reads the environment variable SKLEARN_AUTOREC_DATA.

    Returns
    -------
    Table
    """
    if name not in SOURCES:
        raise ValueError(f"There is no table {name!r}; there are {', '.join(SOURCES)}.")
    if rows is not None and rows < 1:
        raise ValueError(f"rows={rows!r}; it must be at least 1, or None for all rows.")
    source = SOURCES[name]
    folder = Path(get_data_home(data_home)) / name
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    parts = _parts(folder, source)
    labels = meta.get("labels", ["label", *(["rating"] if "rating" in parts[0] else [])])
    out = {*labels, *meta.get("not_features", []), *source.drop, source.time}
    listed = list(meta["fields"]) if "labels" in meta else list(parts[0].columns)
    fields = [column for column in listed if column not in out]
    numeric = tuple(f for f in fields if f in meta.get("numeric", []))

    rng = np.random.default_rng(seed)
    share = 1.0 if rows is None else min(1.0, rows / len(parts[0]))
    keep = [_kept(len(part), max(1, round(share * len(part))), rng) for part in parts[:2]]
    parts = [part.iloc[k].reset_index(drop=True) for part, k in zip(parts, keep, strict=False)] + [
        parts[2].reset_index(drop=True)
    ]

    values = {"name": name, "numeric": numeric, "time": source.time, "ordered": source.ordered}
    for part, frame in zip(PARTS, parts, strict=True):
        values[f"X_{part}"] = pd.DataFrame(
            {
                f: as_number(frame[f], integers) if f in numeric else as_text(frame[f])
                for f in fields
            }
        )
        values[f"y_{part}"] = frame["label"].to_numpy(dtype="int64")
        if source.time is not None:
            values[f"time_{part}"] = frame[source.time]
        if "rating" in labels:
            values[f"rating_{part}"] = frame["rating"].to_numpy(dtype="float64")
    return Table(**values)
