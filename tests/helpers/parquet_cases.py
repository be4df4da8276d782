"""Tables in Parquet files of several row groups."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq

from sklearn_autorec.datasets import make_ctr


def write_parts(folder, frame, rows_per_file, rows_per_group):
    """A frame in files "part-0.parquet" and so on; their paths."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    paths = []
    for number, first in enumerate(range(0, len(frame), rows_per_file)):
        paths.append(folder / f"part-{number}.parquet")
        pq.write_table(table.slice(first, rows_per_file), paths[-1], row_group_size=rows_per_group)
    return paths


def clicks(n, **options):
    """Planted clicks: X, y."""
    options = {"n_fields": 4, "cardinality": 20, "pairs": [(0, 1)], "random_state": 0} | options
    X, y, _ = make_ctr(n, **options)
    return X, y


def damage(path, place):
    """Overwrite 64 bytes of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    first = int(place * len(content))
    content[first : first + 64] = bytes(64)
    path.write_bytes(content)


def reading_threads():
    """Threads that read blocks."""
    return [t for t in threading.enumerate() if t.name.startswith("sklearn_autorec-blocks")]
