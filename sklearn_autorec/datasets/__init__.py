"""Planted-truth data, and loaders of public data sets."""

from ._ctr_truth import CTRTruth
from ._loaders import (
    fetch_adult,
    fetch_amazon_beauty,
    fetch_avazu_sample,
    fetch_criteo_sample,
    fetch_frappe,
    fetch_movielens_1m,
    fetch_movielens_100k,
    get_data_home,
    load_splits,
)
from ._make_ctr import CTRProblem, make_ctr
from ._make_tastes import TasteTruth, make_tastes
from ._parquet import ParquetDataset

__all__ = [
    "CTRProblem",
    "CTRTruth",
    "ParquetDataset",
    "TasteTruth",
    "fetch_adult",
    "fetch_amazon_beauty",
    "fetch_avazu_sample",
    "fetch_criteo_sample",
    "fetch_frappe",
    "fetch_movielens_100k",
    "fetch_movielens_1m",
    "get_data_home",
    "load_splits",
    "make_ctr",
    "make_tastes",
]
