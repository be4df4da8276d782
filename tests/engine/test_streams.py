"""Batches of rows that come in blocks: each row once an epoch, as of one table where all fit."""

import numpy as np
import pytest
import torch
from parquet_cases import reading_threads

from sklearn_autorec.engine import EncodedTensors, TrainingBatches
from sklearn_autorec.engine._streams import RowStream, read_ahead


def table(n, first=0):
    """Rows whose ids are their numbers, from 2."""
    ids = torch.arange(first, first + n, dtype=torch.int32)[:, None] + 2
    return EncodedTensors(
        ids, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32), ids[:, 0].float()
    )


def stream_of(sizes, buffer_rows, read=None):
    starts = np.cumsum([0, *sizes])
    return RowStream(
        read or (lambda i: table(sizes[i], int(starts[i]))),
        np.array(sizes),
        buffer_rows,
        torch.device("cpu"),
        torch.zeros(0, dtype=torch.int64),
    )


def rows(batches):
    return [batch.y.tolist() for batch in batches]


@pytest.mark.parametrize("members", [1, 3])
def test_blocks_of_one_buffer_are_batches_of_a_table_to_the_bit(members):
    options = {"id_dropout": 0.3, "seed": 7, "members": members}
    whole = TrainingBatches(table(97), 16, **options)
    streamed = stream_of([30, 40, 0, 27], 97).batches(16, **options)
    assert len(streamed) == len(whole) == 6  # a last batch of one row joins the one before
    for _ in range(2):
        for ours, theirs in zip(streamed, whole, strict=True):
            assert torch.equal(ours.ids, theirs.ids) and torch.equal(ours.y, theirs.y)


@pytest.mark.parametrize(
    ("sizes", "buffer_rows"),
    [([50] * 8, 100), ([7] * 50, 20), ([1, 300, 2, 60, 0, 33], 64), ([33] * 3, 1), ([16] * 5, 16)],
)
def test_each_row_comes_once_an_epoch_in_full_batches(sizes, buffer_rows):
    batches = stream_of(sizes, buffer_rows).batches(16, seed=1)
    epochs = [rows(batches) for _ in range(3)]
    n = sum(sizes)
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == [i + 2 for i in range(n)]
        assert len(epoch) == len(batches)
        assert all(len(batch) == 16 for batch in epoch[:-1]) and len(epoch[-1]) > 1
    assert epochs[0] != epochs[1] != epochs[2]
    assert rows(stream_of(sizes, buffer_rows).batches(16, seed=1)) == epochs[0]
    assert rows(stream_of(sizes, buffer_rows).batches(16, seed=2)) != epochs[0]


def test_blocks_are_shuffled_and_rows_within_a_buffer():
    epoch = sum(rows(stream_of([100] * 20, 300).batches(10, seed=0)), [])
    blocks = (np.array(epoch) - 2) // 100
    # Three blocks of twenty are mixed at a time (a window sees two buffers); they do not lie side
    # by side in the data set.
    kinds = [len(set(blocks[i : i + 100])) for i in range(0, 2000, 100)]
    assert 2 <= np.mean(kinds) <= 6
    assert np.abs(np.corrcoef(epoch, np.arange(2000))[0, 1]) < 0.5


def test_no_more_than_a_buffer_and_a_block_is_read_ahead():
    read, used = [], []

    def block(i):
        read.append(i)
        return table(50, 50 * i)

    for batch in stream_of([50] * 10, 100, block).batches(10, seed=0):
        used.append(len(batch))
        assert len(read) * 50 - sum(used) <= 100 + 50 + 2 * 10


def test_the_thread_ends_where_an_epoch_is_broken_off():
    batches = stream_of([50] * 10, 50).batches(10)
    next(iter(batches))
    assert len(reading_threads()) == 1
    batches.close()
    assert reading_threads() == []


def test_an_error_of_the_thread_is_that_of_the_epoch():
    def block(i):
        if i == 3:
            raise OSError("part-3 cannot be read")
        return table(50, 50 * i)

    with pytest.raises(OSError, match="part-3 cannot be read"):
        rows(stream_of([50] * 10, 50, block).batches(10))
    assert reading_threads() == []


def test_read_ahead_is_one_call_ahead():
    asked = []
    answers = read_ahead(lambda i: asked.append(i) or i, range(5))
    assert next(answers) == 0 and next(answers) == 1
    answers.close()
    assert asked in ([0, 1], [0, 1, 2])  # the last one was under way, or had not begun
    assert list(read_ahead(str, [])) == []


def test_rows_that_are_set_apart_come_in_no_batch_and_in_all_pools():
    stream, apart = stream_of([50] * 10, 150).without(0.4, seed=1, pooled=True)
    batches, own = stream.batches(16, seed=0), None
    trained, for_arch = set(), set()
    for batch in batches:
        own = own or apart.forever(16, seed=5)
        trained |= set(batch.y.tolist())
        for_arch |= set(next(own).y.tolist())
    assert len(stream) == len(trained) and not trained & for_arch
    assert 0.3 * 500 < 500 - len(trained) < 0.5 * 500
    assert len(for_arch) > 0.9 * (500 - len(trained))


def test_rows_that_are_kept_are_all_that_the_batches_lack():
    stream, first = stream_of([50] * 10, 150).without(0.2, seed=1, pooled=False)
    stream, second = stream.without(0.2, seed=2, pooled=True)
    batches = stream.batches(16)
    for _ in range(2):
        trained = sum(rows(batches), [])
    kept = first.data.y.tolist()
    in_pool = sum(second.drawn(i).sum() for i in range(10))
    assert len(kept) == len(set(kept)) == 500 - len(stream) - in_pool
    assert not set(kept) & set(trained)
    with pytest.raises(ValueError, match="leaves none on one side"):
        stream_of([1], 10).without(0.5, seed=0, pooled=True)


def test_mapped_blocks_are_those_of_the_change():
    stream = stream_of([5, 5], 10).mapped(lambda data: data.select(slice(0, 2)))
    assert [len(block) for block in stream.blocks()] == [2, 2]
