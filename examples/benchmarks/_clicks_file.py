"""A Parquet file of made clicks, for benchmarks of fits from files."""


def write(path, rows, fields, cardinality, group_rows):
    """Write clicks with five planted pairs, ``group_rows`` rows to a row group.

    What it needs is imported here, so that a benchmark of memory can have it in another process.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sklearn_autorec.datasets import CTRProblem

    cardinalities = [cardinality] * 3 + [50] * (fields - 3)
    problem = CTRProblem(
        n_fields=fields, cardinality=cardinalities, pairs=5, informative_fields=3, random_state=0
    )
    writer = None
    for first in range(0, rows, group_rows):
        X, y, _ = problem.sample(min(group_rows, rows - first), random_state=first)
        table = pa.Table.from_pandas(X.assign(click=y.astype(np.int8)), preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
