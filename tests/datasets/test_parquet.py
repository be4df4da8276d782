"""Tables in Parquet files: what is read, in which order, and what is refused by name."""

import pickle
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from parquet_cases import damage, write_parts

from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.utils._row_draws import uniform_by_row


def numbered(n=1000):
    names = np.array(["ann", "bob", None, "eve"], object)
    return pd.DataFrame({"row": np.arange(n), "name": names[np.arange(n) % 4]})


def test_rows_come_in_the_order_of_files_and_row_groups(tmp_path):
    frame = numbered()
    paths = write_parts(tmp_path, frame, 300, 128)
    data = ParquetDataset(tmp_path)
    assert data.n_rows == 1000 and data.column_names == ["row", "name"]
    assert [b.n_rows for b in data.blocks] == [128, 128, 44] * 3 + [100]
    assert [b.first for b in data.blocks] == [0, 128, 256, 300, 428, 556, 600, 728, 856, 900]
    assert data.read().to_pandas().equals(frame)
    assert ParquetDataset(paths[1]).read()["row"].to_pylist() == list(range(300, 600))
    backwards = ParquetDataset([paths[1], str(paths[0])], columns=["row"])
    assert backwards.read()["row"].to_pylist() == [*range(300, 600), *range(300)]
    (third,) = data.slices(2, ["name"])
    assert third["name"].to_pylist() == ["ann", "bob", None, "eve"] * 11


def test_large_row_groups_come_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_autorec.datasets._parquet.SLICE_ROWS", 100)
    write_parts(tmp_path, numbered(), 1000, 1000)
    slices = [len(part) for part in ParquetDataset(tmp_path).slices(0)]
    assert sum(slices) == 1000 and max(slices) <= 100


def test_folders_can_name_a_column(tmp_path):
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        write_parts(tmp_path / f"day={day}", numbered(10), 10, 10)
    data = ParquetDataset(tmp_path)
    assert data.column_names == ["row", "name", "day"]
    assert data.read()["day"].to_pylist() == [1] * 10 + [2] * 10
    # A file that is named itself has its own columns alone.
    assert ParquetDataset(tmp_path / "day=1" / "part-0.parquet").column_names == ["row", "name"]


def test_a_pickle_reads_the_same_files(tmp_path):
    write_parts(tmp_path, numbered(), 300, 128)
    data = ParquetDataset(tmp_path, columns=["row"], buffer_rows=7)
    n_rows = data.n_rows
    again = pickle.loads(pickle.dumps(data))
    assert (again.n_rows, again.buffer_rows) == (n_rows, 7) and again.column_names == ["row"]


def test_the_sample_depends_on_the_rows_alone(tmp_path):
    for name, sizes in (("a", (300, 128)), ("b", (1000, 77))):
        (tmp_path / name).mkdir()
        write_parts(tmp_path / name, numbered(), *sizes)
    drawn = [ParquetDataset(tmp_path / name).sample(200, random_state=3) for name in "ab"]
    assert drawn[0].equals(drawn[1]) and 150 < len(drawn[0]) < 250
    other = ParquetDataset(tmp_path / "a").sample(200, random_state=4, columns=["row"])
    assert other["row"].to_pylist() != drawn[0]["row"].to_pylist()
    assert ParquetDataset(tmp_path / "a").sample(1000).equals(ParquetDataset(tmp_path / "a").read())


def test_draws_are_uniform_and_do_not_depend_on_where_a_block_begins():
    whole = uniform_by_row(0, 20_000, seed=5)
    assert np.array_equal(whole[700:900], uniform_by_row(700, 200, seed=5))
    shares = np.histogram(whole, 10, (0, 1))[0] / 20_000
    assert np.abs(shares - 0.1).max() < 0.01
    assert abs(np.corrcoef(whole, uniform_by_row(0, 20_000, seed=6))[0, 1]) < 0.03
    assert abs(np.corrcoef(whole[1:], whole[:-1])[0, 1]) < 0.03


def test_a_file_without_its_end_is_named(tmp_path):
    paths = write_parts(tmp_path, numbered(), 300, 128)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    with pytest.raises(OSError, match=re.escape(str(paths[2]))):
        ParquetDataset(tmp_path).n_rows  # noqa: B018


def test_a_broken_row_group_is_named(tmp_path):
    frame = pd.DataFrame({"text": np.random.default_rng(0).random(1000).astype(str)})
    paths = write_parts(tmp_path, frame, 500, 250)
    damage(paths[1], 0.6)
    data = ParquetDataset(tmp_path)
    for good in range(3):
        list(data.slices(good))
    with pytest.raises(OSError, match="part-1.parquet, row group 1 cannot be read"):
        list(data.slices(3))


def other_file(tmp_path, frame):
    write_parts(tmp_path, numbered(10), 10, 10)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "z.parquet")
    return ParquetDataset(tmp_path)


def test_a_column_that_one_file_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"z.parquet lacks the columns \['name'\].*part-0"):
        other_file(tmp_path, numbered(5)[["row"]]).n_rows  # noqa: B018


def test_a_column_that_only_one_file_has_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"z.parquet has the columns \['new'\].*part-0"):
        other_file(tmp_path, numbered(5).assign(new=1)).n_rows  # noqa: B018
    chosen = ParquetDataset(tmp_path, columns=["name", "row"])  # which is in all files
    assert chosen.n_rows == 15


def test_a_column_of_another_type_in_one_file_is_named(tmp_path):
    frame = numbered(5).assign(row=lambda f: f["row"].astype(float))
    with pytest.raises(ValueError, match="'row' has the type double in .*z.parquet, int64 in"):
        other_file(tmp_path, frame).n_rows  # noqa: B018


def test_columns_in_another_order_or_without_a_value_are_read(tmp_path):
    frame = numbered(5)[["name", "row"]].assign(name=None)
    data = other_file(tmp_path, frame)
    table = data.read()
    assert table["row"].to_pylist() == [*range(10), *range(5)]
    assert table["name"].to_pylist()[9:] == ["bob", *[None] * 5]
    assert pa.types.is_string(table["name"].type) or pa.types.is_large_string(table["name"].type)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"buffer_rows": 0}, "buffer_rows must be an int of at least 1, got 0"),
        ({"sample_rows": 2.5}, "sample_rows must be an int of at least 1, got 2.5"),
        ({"buffer_rows": True}, "buffer_rows must be an int of at least 1, got True"),
    ],
)
def test_wrong_numbers_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        ParquetDataset("clicks", **params)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(TypeError, match="cache must be a bool or a folder, got 3"):
        ParquetDataset(tmp_path, cache=3)
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        ParquetDataset(tmp_path / "nowhere").n_rows  # noqa: B018
    with pytest.raises(FileNotFoundError, match=r"has no \*.parquet file"):
        ParquetDataset(tmp_path).n_rows  # noqa: B018
    write_parts(tmp_path, numbered(10), 10, 10)
    with pytest.raises(ValueError, match=r"columns has \['clock'\], which are not in"):
        ParquetDataset(tmp_path, columns=["row", "clock"]).n_rows  # noqa: B018
    pq.write_table(pa.table({"row": pa.array([], pa.int64())}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="has no rows"):
        ParquetDataset(tmp_path / "none.parquet").n_rows  # noqa: B018


def test_of_arrow_reads_the_files_of_a_data_set(tmp_path):
    write_parts(tmp_path, numbered(), 300, 128)
    data = ParquetDataset.of_arrow(pyarrow.dataset.dataset(tmp_path), columns=["row"])
    assert data.read()["row"].to_pylist() == list(range(1000))


def test_where_a_table_must_be_in_memory_the_error_says_how(tmp_path):
    write_parts(tmp_path, numbered(10), 10, 10)
    data = ParquetDataset(tmp_path)
    with pytest.raises(
        TypeError, match=r"X is a ParquetDataset, whose rows come in blocks; .*read"
    ):
        FieldEncoder().fit(data)
    with pytest.raises(TypeError, match=r"FileSystemDataset, whose rows are not there .*to_table"):
        FieldEncoder().fit(pyarrow.dataset.dataset(tmp_path))
    assert FieldEncoder().fit(data.read()).n_ids_ is not None
