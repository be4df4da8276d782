"""Public data sets, read from Parquet files that the user has placed on disk."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.datasets import get_data_home as sklearn_data_home
from sklearn.utils import Bunch

from ..utils._typing import Array, FilePath

SPLITS = ("train", "valid", "test")
ENVIRONMENT = "SKLEARN_AUTOREC_DATA"

# sha256 of the files that the documented figures were measured on.
CHECKSUMS = {
    "adult/train.parquet": "1efad14b249a5ede3901d5c277f2ec976dc550c66ae5c05f0fdb6ce6f88780c6",
    "adult/valid.parquet": "e3580a2ca816609ae9572e39608dbe520b038e76c205095584937317b799c3a3",
    "adult/test.parquet": "1b9069e32f51efeb3590b0d14cdcc5d2cb60f138f9054e3fae43a03f260afe79",
    "amazon_beauty_seq/interactions.parquet": "f24507dceb237e871a9f9aa4552068177cfb870b4531c0ef9b23a48bc6c5e388",
    "avazu_sample/train.parquet": "5f6b92086cbf9b6b42727c3c58d6c71cc89a5a33361cebd746f3db50c25038be",
    "avazu_sample/valid.parquet": "2ed66ad1f63a70013a1c5572498a293e6406fd66ad47e7f00d86fbbcc2c3102c",
    "avazu_sample/test.parquet": "4aa107871fae6d1b6882700b8255af69b6654f3ec784aa0cfd56c2225f5b0207",
    "criteo_sample/train.parquet": "3a40a02275b4ae0889f4301d7d4753d145632855902aeb17ad73cfe29308d235",
    "criteo_sample/valid.parquet": "3ec0cd7cf6882b90e874333ab1b879cde3bf9a40be15416ea1854ec5ce340cf6",
    "criteo_sample/test.parquet": "1466317c3d5ac6b144b500ae5769801b73d8f190f2d7fed4e85ecc4bca4bbebf",
    "frappe_x1/train.parquet": "eb7785b1f1e2951bc71d37646264a5bfa498efa5071f521e425c1109c25bf25d",
    "frappe_x1/valid.parquet": "5a04dfabc04fa3000e1cfba9a67f09e232ce80a9c5e76a76e9a92898ae9f5f04",
    "frappe_x1/test.parquet": "fea41d5fa1afae7de436863700d03f562a94d4225d09c239eb008fbc3f78545c",
    "ml-100k/interactions.parquet": "171b775f6e2131ac7989273c7bf7f5d474d2c31833f126319dd00ecc81073ffe",
    "ml-1m/interactions.parquet": "42cac499c3d58b6c72e25eec18143f8e4d855e1002e81110d75d5a6c887448f5",
}


def get_data_home(data_home: FilePath | None = None) -> Path:
    """The folder that holds a folder per data set.

    Parameters
    ----------
    data_home : path or None, default=None
        None is the environment variable ``SKLEARN_AUTOREC_DATA``, else "sklearn_autorec" in
        scikit-learn's own data home.

    Returns
    -------
    pathlib.Path
    """
    if data_home is None:
        data_home = os.environ.get(ENVIRONMENT) or Path(sklearn_data_home()) / "sklearn_autorec"
    return Path(data_home)


def _read(data_home, name, file, source, checksum=True):
    """One Parquet file, its checksum compared; says where the data comes from if it is not
    there.
    """
    path = get_data_home(data_home) / name / file
    if not path.exists():
        raise OSError(
            f"{path} is not there, and its terms do not allow a download from elsewhere. Get the "
            f"data from {source}, write it "
            f"as Parquet, and point data_home (or the environment variable {ENVIRONMENT}) at the "
            f"folder that holds {name!r}."
        )
    if checksum:
        got, expected = hashlib.sha256(path.read_bytes()).hexdigest(), CHECKSUMS[f"{name}/{file}"]
        if got != expected:
            raise OSError(
                f"{path} has sha256 {got}, expected {expected}: another version, or damaged. "
                f"checksum=False reads it anyway."
            )
    return _read_parquet(path)


def _read_parquet(path):
    try:
        import pyarrow  # noqa: F401  (pandas would name two engines and no extra)
    except ImportError as error:
        raise ImportError(
            'Reading Parquet needs pyarrow: pip install "sklearn-autorec[parquet]"'
        ) from error
    return pd.read_parquet(path)


def _bunch(frame, target, drop, numeric, description, return_X_y):
    y = frame[target].to_numpy()
    X = frame.drop(columns=[c for c in drop if c in frame.columns])
    if return_X_y:
        return X, y
    return Bunch(
        data=X,
        target=y,
        frame=frame,
        feature_names=list(X.columns),
        target_name=target,
        categorical_features=[c for c in X.columns if c not in numeric],
        DESCR=description,
    )


def _fetch_files(name, subset, numeric, source, description, data_home, return_X_y, checksum):
    if subset not in (*SPLITS, "all"):
        raise ValueError(f"subset must be one of {[*SPLITS, 'all']}, got {subset!r}.")
    subsets = SPLITS if subset == "all" else (subset,)
    frame = pd.concat(
        [_read(data_home, name, f"{s}.parquet", source, checksum) for s in subsets],
        ignore_index=True,
    )
    return _bunch(frame, "label", ["label"], numeric, description, return_X_y)


_FETCH_DOC = """

    Parameters
    ----------
    subset : {{"train", "valid", "test", "all"}}, default="train"
    data_home : path or None, default=None
        See `get_data_home`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    checksum : bool, default=True
        Refuse files other than those the documented figures were measured on.

    Returns
    -------
    Bunch with data (DataFrame), target (ndarray), frame, feature_names, categorical_features, DESCR

    Raises
    ------
    OSError
        If the file is not there or is another version; nothing is downloaded.
"""


def _file_fetcher(
    function_name: str, name: str, numeric: list[str], source: str, description: str
) -> Callable[..., Any]:
    def fetch(*, subset="train", data_home=None, return_X_y=False, checksum=True):
        return _fetch_files(
            name, subset, numeric, source, description, data_home, return_X_y, checksum
        )

    fetch.__name__ = fetch.__qualname__ = function_name
    fetch.__doc__ = description + _FETCH_DOC
    return fetch


fetch_frappe = _file_fetcher(
    "fetch_frappe",
    "frappe_x1",
    [],
    "https://arxiv.org/abs/1505.03014",
    "App usage in context (Frappe): ten categorical fields, label 1 for a used app, two drawn "
    "negatives each. Research use only.",
)
fetch_adult = _file_fetcher(
    "fetch_adult",
    "adult",
    ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"],
    "https://archive.ics.uci.edu/dataset/2/adult",
    "Census income (Adult): mixed columns with missing values, label 1 for an income above 50,000 "
    "dollars.",
)
fetch_criteo_sample = _file_fetcher(
    "fetch_criteo_sample",
    "criteo_sample",
    [f"I{i}" for i in range(1, 14)],
    "https://www.kaggle.com/c/criteo-display-ad-challenge",
    "Ten thousand rows of the Criteo display advertising challenge: 13 numeric, 26 hashed "
    "categorical columns. Research use only.",
)
fetch_avazu_sample = _file_fetcher(
    "fetch_avazu_sample",
    "avazu_sample",
    [],
    "https://www.kaggle.com/c/avazu-ctr-prediction",
    "Nine thousand rows of one hour of the Avazu challenge, 22 categorical columns. Competition "
    "rules apply.",
)


def _fetch_movielens(
    name, column, subset, target, leaks, numeric, data_home, return_X_y, checksum, description
):
    if subset not in (*SPLITS, "all"):
        raise ValueError(f"subset must be one of {[*SPLITS, 'all']}, got {subset!r}.")
    if target not in ("label", "rating"):
        raise ValueError(f"target must be 'label' or 'rating', got {target!r}.")
    frame = _read(
        data_home,
        name,
        "interactions.parquet",
        "https://grouplens.org/datasets/movielens/",
        checksum,
    )
    if subset != "all":
        frame = frame[frame[column] == subset].reset_index(drop=True)
    drop = ["label", "rating", *leaks, *[c for c in frame.columns if c.startswith("split_")]]
    return _bunch(frame, target, drop, numeric, description, return_X_y)


def fetch_movielens_1m(
    *,
    subset: str = "train",
    split: str = "random",
    target: str = "label",
    data_home: FilePath | None = None,
    return_X_y: bool = False,
    checksum: bool = True,
) -> Any:
    """MovieLens 1M with user and movie columns; research use, no redistribution.

    Columns that are known only after the fact (``n_in_user``, ``last_timestamp``) are left out of
    ``data``.

    Parameters
    ----------
    subset : {"train", "valid", "test", "all"}, default="train"
    split : {"random", "user_time"}, default="random"
        8:1:1 at random, or 80/10/10 in time order within each user.
    target : {"label", "rating"}, default="label"
        Whether the rating is at least 4, or the rating.
    data_home, return_X_y, checksum
        As in `fetch_frappe`.

    Returns
    -------
    Bunch, or (data, target)

    Raises
    ------
    OSError
        If the file is not there or is another version; nothing is downloaded.
    """
    if split not in ("random", "user_time"):
        raise ValueError(f"split must be 'random' or 'user_time', got {split!r}.")
    return _fetch_movielens(
        "ml-1m",
        f"split_{split}",
        subset,
        target,
        ["n_in_user", "last_timestamp"],
        ["pos_in_user", "year"],
        data_home,
        return_X_y,
        checksum,
        fetch_movielens_1m.__doc__,
    )


def fetch_movielens_100k(
    *,
    subset: str = "train",
    target: str = "label",
    data_home: FilePath | None = None,
    return_X_y: bool = False,
    checksum: bool = True,
) -> Any:
    """MovieLens 100K in time order with user and movie columns; research use, no redistribution.

    Parameters
    ----------
    subset : {"train", "valid", "test", "all"}, default="train"
        80/10/10 in global time.
    target, data_home, return_X_y, checksum
        As in `fetch_movielens_1m`.

    Returns
    -------
    Bunch, or (data, target)

    Raises
    ------
    OSError
        If the file is not there or is another version; nothing is downloaded.
    """
    return _fetch_movielens(
        "ml-100k",
        "split_time",
        subset,
        target,
        [],
        ["timestamp", "age", "year"],
        data_home,
        return_X_y,
        checksum,
        fetch_movielens_100k.__doc__,
    )


def fetch_amazon_beauty(*, data_home: FilePath | None = None, checksum: bool = True) -> Any:
    """Amazon Beauty: item sequences of users in time order, positives only; research use.

    Returns
    -------
    Bunch with frame (DataFrame of user, item, pos_in_user, split) and DESCR

    Raises
    ------
    OSError
        If the file is not there or is another version; nothing is downloaded.
    """
    frame = _read(
        data_home,
        "amazon_beauty_seq",
        "interactions.parquet",
        "https://jmcauley.ucsd.edu/data/amazon/",
        checksum,
    )
    return Bunch(frame=frame, feature_names=list(frame.columns), DESCR=fetch_amazon_beauty.__doc__)


def load_splits(
    folder: FilePath, target: str | None = None
) -> dict[str, tuple[pd.DataFrame, Array]]:
    """Read train, valid and test tables of a folder of Parquet or CSV files.

    Parameters
    ----------
    folder : path
        Holds ``train``, ``test`` and perhaps ``valid``, each ``.parquet`` or ``.csv``.
    target : str or None, default=None
        The column to predict; None is "label".

    Returns
    -------
    dict of str to (DataFrame, ndarray)
        Columns and target of "train", "test" and, if there, "valid".

    Raises
    ------
    OSError
        If a file is not there.
    ValueError
        If a file lacks the target.
    """
    folder, target, out = Path(folder), target or "label", {}
    for split in SPLITS:
        found = [
            path for path in (folder / f"{split}.parquet", folder / f"{split}.csv") if path.exists()
        ]
        if not found:
            if split == "valid":
                continue
            raise OSError(f"{folder} has neither {split}.parquet nor {split}.csv.")
        frame = _read_parquet(found[0]) if found[0].suffix == ".parquet" else pd.read_csv(found[0])
        if target not in frame.columns:
            raise ValueError(
                f"{found[0]} has no column {target!r}; its columns are {list(frame.columns)}."
            )
        out[split] = frame.drop(columns=target), frame[target].to_numpy()
    return out
