"""A fit from rows that come in blocks: what is learned of all of them, of a sample, and of buffers.

A pass over all rows (`survey`) counts vocabularies and labels and draws a sample; the training of
the network reads all rows, block by block; the parts beside the network and searches have the
sample. What follows is the fit of a table, with a `RowStream` in place of the training rows.
"""

from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from ..datasets._sources import is_dataset, is_lazy, opened
from ..engine._streams import RowStream
from ..preprocessing._names import compare_names
from ..utils._frames import table_names
from ._encoded_blocks import EncodedBlocks
from ._progress import Seeds
from ._rows import validation_rows
from ._settings import is_default
from ._split import EARLY_STOPPING_ROWS, Split
from ._survey import Reading, survey
from ._times import check_time_column
from ._together import check_in_memory, device_of_process

__all__ = ["StreamedFit", "as_table", "comes_in_blocks", "streamed", "tables_of"]


class StreamedFit:
    """What `prepare_fit` takes where rows come in blocks.

    Parameters
    ----------
    rows : Rows
        The sample.
    split : Split
        Of the sample.
    stream : RowStream
        The training rows.
    report : dict
        What the fitted attribute ``dataset_`` says.
    """

    def __init__(self, rows, split, stream, report):
        self.rows, self.split, self.stream, self.report = rows, split, stream, report


def reading_of(estimator, dataset, y, sample_weight, groups=None, without=None):
    """Which columns of a data set are what.

    A column of groups is one of the table only where ``dataset.columns`` names it. ``without`` is
    left out as well.

    Raises
    ------
    TypeError, ValueError
        If the target, the weights or the groups are no names of columns.
    """
    for name, value in (("y", y), ("sample_weight", sample_weight), ("groups", groups)):
        if not isinstance(value, str) and (name == "y" or value is not None):
            raise TypeError(
                f"{name} must be the name of a column where X is a data set, got {value!r:.100}."
            )
        if value is not None and value not in dataset.schema.names:
            raise ValueError(
                f"{name}={value!r} is no column of the data set; its columns are "
                f"{dataset.schema.names}."
            )
    taken = {y, sample_weight, *({groups, without} if dataset.columns is None else ())}
    columns = [name for name in dataset.column_names if name not in taken]
    if not columns:
        raise ValueError(f"{dataset!r} has no column beside y={y!r} and sample_weight.")
    return Reading(dataset, columns, y, sample_weight, estimator, groups)


def as_table(estimator, dataset, y, sample_weight, groups=None, without=None):
    """A data set in memory: table, targets, weights and labels of groups (or None); see
    `reading_of`.
    """
    import pyarrow as pa

    reading = reading_of(estimator, dataset, y, sample_weight, groups, without)
    parts = [part for i in range(len(dataset.blocks)) for part in reading.parts(i)]
    tables, targets, weights = zip(*parts, strict=True)
    table = pa.concat_tables([part.select(reading.columns) for part in tables])
    weight = None if sample_weight is None else np.concatenate(weights)
    labels = None if groups is None else np.concatenate([reading.labels(own) for own in tables])
    return table, np.concatenate(targets), weight, labels


def comes_in_blocks(X, fitted):
    """Whether a fitted estimator reads a table in blocks: a data set, or a lazy table where it can
    be written to files and has columns to look up.
    """
    if not is_dataset(X) or not is_lazy(X):
        return is_dataset(X)
    return hasattr(fitted, "feature_names_in_") and find_spec("pyarrow") is not None


def tables_of(X, fitted):
    """Tables with the columns of a fitted estimator, one after the other, of a data set.

    Other columns are left out. Of a lazy table, which has an order as any table, the columns must
    be in that of ``fit``; no row is computed before that is known.
    """
    if not hasattr(fitted, "feature_names_in_"):
        raise ValueError(
            f"{type(fitted).__name__} was fitted on columns without names, which cannot be found "
            f"in a data set; give its rows in memory."
        )
    names = fitted.feature_names_in_.tolist()
    if is_lazy(X):
        given = table_names(X)
        known = [name for name in given if name in names]
        compare_names(fitted, known if len(known) == len(names) else given, names)
    with opened(X) as dataset:
        lacking = [name for name in names if name not in dataset.schema.names]
        if lacking:
            raise ValueError(
                f"The data set lacks the columns {lacking}, with which "
                f"{type(fitted).__name__} was fitted."
            )
        for number in range(len(dataset.blocks)):
            yield from dataset.slices(number, names)


@contextmanager
def streamed(estimator, dataset, columns, validation, fitted, processes=None):
    """What `prepare_fit` takes of a data set that is larger than a buffer.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
    dataset : ParquetDataset
    columns : tuple (y, sample_weight, groups)
        As ``fit`` was given them.
    validation : tuple (X_val, y_val, sample_weight_val)
        Rows in memory for early stopping, or three times None.
    fitted : estimator or None
        Which goes on.
    processes : Processes or None, default=None
        Each of which reads all rows.

    Yields
    ------
    StreamedFit
    """
    check_in_memory(estimator)
    _check_times(estimator)
    reading = reading_of(estimator, dataset, *columns)
    stops = estimator.early_stopping
    if stops == "auto":
        stops = is_default(estimator.network) or dataset.n_rows >= EARLY_STOPPING_ROWS
    given = validation[0] is not None
    share = estimator.validation_fraction if stops and not given else 0.0
    seed = Seeds(estimator.random_state, processes).split
    found = survey(reading, fitted, share, estimator.validation == "last", seed)
    rows, judge = found.rows, found.judge
    if share and estimator.early_stopping != "auto" and not judge.any():
        if reading.group is not None:
            raise ValueError(
                f"groups={reading.group!r} leaves no group to validate on: all rows that count "
                f"have the same label, or those of the groups that were drawn weigh nothing; set "
                f"early_stopping=False, or give X_val and y_val."
            )
        raise ValueError(
            f"validation_fraction={share} leaves no rows to validate on ({len(rows)} rows)."
        )
    valid = None
    if not rows.has_single_class:
        valid = validation_rows(estimator, rows, *validation)
    kept = rows.take(np.flatnonzero(~judge))
    split = Split(kept)
    if valid is not None:
        split = Split(rows, valid, valid)
    elif judge.any():
        parts = np.where(judge, 0, -1)
        split = Split(kept, rows.take(np.flatnonzero(judge)), None, parts, 1)
    report = {
        "n_rows": int(rows.totals[0].sum()),
        "n_training_rows": int(found.sizes.sum()),
        "n_held_out": int(judge.sum()),
        "n_sampled": len(kept),
        "n_blocks": len(found.sizes),
    }
    with ExitStack() as stack:
        folder = None
        if dataset.cache is not False:
            place = None if dataset.cache is True else dataset.cache
            made = TemporaryDirectory(prefix="sklearn_autorec-", dir=place)
            folder = Path(stack.enter_context(made))
        blocks = EncodedBlocks(reading, found, folder)
        stream = RowStream(
            blocks,
            found.sizes,
            dataset.buffer_rows,
            device_of_process(estimator.device, processes),
            torch.from_numpy(_constant(rows)),
            groups=None if reading.group is None else blocks.groups,
        )
        yield StreamedFit(rows, split, stream, report)


def _check_times(estimator):
    """Refuse to hold out the newest rows: which they are is known only once all are read."""
    check_time_column(estimator)
    if estimator.validation == "time":
        raise ValueError(
            f"validation='time' (time_column={estimator.time_column!r}) needs rows in memory, and "
            f"the data set has more than buffer_rows. Give the newest rows as X_val and y_val with "
            f"validation='auto' and time_column=None, or, of files in the order of time, set "
            f"validation='last'; or raise buffer_rows."
        )


def _constant(rows):
    """Categorical columns that hold one value, which is known, in all rows: int64 (n,)."""
    ids = rows.table.ids
    one = (ids == ids[:1]).all(0) & (ids[0] > 1)
    if not isinstance(rows.encoder, FrozenEstimator):  # it has counted these rows
        counts = rows.encoder.counts_[: ids.shape[1]]
        one &= [np.count_nonzero(own) == 1 for own in counts]
    return np.flatnonzero(one)
