"""Values chosen so that hash tables take quadratic time: refused before a table is made of them."""

from collections import Counter

import numpy as np

from ..exceptions import ModelFileError

# Different keys of Python with the same hash: -1 and -2 have one, many more are no accident.
SHARED = 8
SHARED_NUMBERS = 64  # of 32 bits, which n random numbers share about n / 2**32 times
_SEED, _FACTOR = np.uint32(0xC70F6907 ^ 4), np.uint32(0x5BD1E995)


def check_keys(keys, where):
    """Refuse keys for a dict or a set that share a hash. Tuples alone can: hashes of text differ in
    every process.

    Parameters
    ----------
    keys : list
        Hashable.
    where : str
    """
    if any(isinstance(key, tuple | frozenset) for key in keys):
        most = max(Counter(map(hash, keys)).values())
        if most > SHARED:
            raise ModelFileError(
                f"{where} has {most} keys of the same hash, chosen to make reading slow, or equal."
            )


def all_different(values, where):
    """Whether hashable values differ from each other."""
    check_keys(values, where)
    return len(set(values)) == len(values)


def check_numbers(values, where):
    """Refuse int64 or float64 that share a hash in the tables of pandas, which are the same in
    every process.
    """
    if len(values) <= SHARED_NUMBERS:
        return
    bits = np.ascontiguousarray(values).view(np.uint64)
    low, high = bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)
    if values.dtype == np.int64:
        hashes = (bits >> np.uint64(33)).astype(np.uint32) ^ low ^ (low << np.uint32(11))
    else:
        hashes = np.full(len(bits), _SEED)
        for part in (low, high):
            part = part * _FACTOR
            hashes = hashes * _FACTOR ^ (part ^ part >> np.uint32(24)) * _FACTOR
    hashes.sort()
    run = SHARED_NUMBERS
    if (hashes[run:] == hashes[:-run]).any():
        raise ModelFileError(
            f"{where} has over {run} numbers of the same hash, chosen to make reading slow, or "
            f"equal."
        )
