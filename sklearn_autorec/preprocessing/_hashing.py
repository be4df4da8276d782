"""Buckets of values that are not listed."""

import numpy as np
import pandas as pd

from ._spelling import (
    WORDS,
)
from ._values import as_kind


def hash_buckets(keys, n_buckets):
    """Bucket of each value's text, the same in every process and for 1, 1.0 and "1", for true,
    "True" and 1.
    """
    texts = as_kind(keys, "O")
    words = (
        np.flatnonzero(pd.Index(texts, dtype=object).isin(list(WORDS)))
        if keys.dtype.kind == "O"
        else ()
    )
    if len(words):
        texts = texts.copy()
        texts[words] = [str(int(WORDS[text])) for text in texts[words]]
    try:
        hashes = pd.util.hash_array(texts, categorize=False)
    except UnicodeEncodeError:  # half of a surrogate pair, which bytes can hold
        texts = np.array([text.encode("utf-8", "surrogatepass") for text in texts], dtype=object)
        hashes = pd.util.hash_array(texts, categorize=False)
    return (hashes % np.uint64(n_buckets)).astype(np.int64)
