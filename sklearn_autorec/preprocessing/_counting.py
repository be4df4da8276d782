"""Counts of all columns of a table, and what is derived from them."""

from concurrent.futures import ThreadPoolExecutor

from joblib import cpu_count

from ._columns import NUMERIC, VECTOR
from ._numeric import NumericSummary
from ._sharing import shared_vocabularies
from ._time_fields import AGE
from ._value_counter import ValueCounter
from ._vectors import VectorSummary

THREAD_ROWS = 100_000  # from so many rows, columns are read in parallel


def each_column(columns, work):
    """``work(i, column)`` of all columns, in threads where these are long: sorting and hashing
    release the lock.
    """
    if len(columns[0]) < THREAD_ROWS or cpu_count() == 1:
        return list(map(work, range(len(columns)), columns))
    with ThreadPoolExecutor(min(cpu_count(), len(columns))) as pool:
        return list(pool.map(work, range(len(columns)), columns))


def new_counters(schema, encoder):
    """An empty counter for each column, as the parameters of the `FieldEncoder` want it."""

    def counter(i, kind):
        if kind == NUMERIC:
            return NumericSummary(encoder.numeric)
        if kind == VECTOR:
            return VectorSummary(schema.vectors[i])
        return ValueCounter(encoder.hash_threshold, encoder.n_hash_buckets)

    return [counter(i, kind) for i, kind in enumerate(schema.kinds)]


def twins(counters):
    """Counters that count on without changing these: adding replaces their arrays, and never writes
    into them.
    """
    found = []
    for counter in counters:
        twin = object.__new__(type(counter))
        twin.__dict__ = dict(vars(counter))
        found.append(twin)
    return found


def count(counters, parsed, weight=None, targets=None):
    """Add parsed columns to their counters; the positions of numeric columns that were text.

    ``weight`` is float64 (n_rows,), or None; ``targets`` are numbers (n_rows, n_targets) for the
    bins of numeric columns."""
    text_numbers = set()
    for i, (counter, values) in enumerate(zip(counters, parsed, strict=True)):
        if isinstance(counter, NumericSummary):
            counter.add(values[0], weight, targets)
            if values[1]:
                text_numbers.add(i)
        elif isinstance(counter, VectorSummary):
            counter.add(values, weight)
        else:
            # Of the items of a sequence column.
            rows = values[3] if len(values) > 3 else slice(None)
            counter.add(*values[:3], None if weight is None else weight[rows])
    return text_numbers


def compress(counters):
    """Reduce numeric counters that have grown too long."""
    for counter in counters:
        if isinstance(counter, NumericSummary):
            counter.compress()


def derive(counters, encoder):
    """Vocabulary or scaler of each column."""
    shared = shared_vocabularies(
        counters, encoder._schema.shared, encoder.min_frequency, encoder.max_categories
    )

    def field(i, counter):
        if isinstance(counter, NumericSummary):
            of_times = encoder._schema.time_fields.get(i) == AGE
            return counter.scaler(encoder.n_quantiles, encoder.n_bins, ages=of_times)
        if isinstance(counter, VectorSummary):
            return counter.scaler()
        return shared.get(i) or counter.vocabulary(encoder.min_frequency, encoder.max_categories)

    return [field(i, counter) for i, counter in enumerate(counters)]
