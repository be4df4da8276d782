"""Blocks of a data set as encoded tensors, which a folder may keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import EncodedTensors
from ..engine._streams import joined
from ._survey import located

__all__ = ["EncodedBlocks"]


@dataclass(frozen=True, eq=False)
class EncodedBlocks:
    """The training rows of each block.

    Parameters
    ----------
    reading : Reading
    found : Survey
    folder : Path or None
        Where blocks are kept once they are encoded; None keeps none.
    """

    reading: Any
    found: Any
    folder: Path | None = None

    def __call__(self, number):
        """The rows of a block as `EncodedTensors` on the CPU.

        Raises
        ------
        OSError
            If the file cannot be read, or is not the one of the first pass any more, or what is
            encoded cannot be written.
        """
        path = None if self.folder is None else self.folder / f"block-{number}.npy"
        if path is not None and path.exists():
            return self._unpacked(np.load(path, mmap_mode="r"))
        data = self._encoded(number)
        if path is not None:
            try:
                np.save(path, _packed(data))
            except OSError as error:
                raise OSError(
                    f"cache: {path} cannot be written ({error}); name a folder with more room, or "
                    "set cache=False."
                ) from error
        return data

    def _encoded(self, number):
        rows, found, reading = self.found.rows, self.found, self.reading
        name, parts = reading.dataset.blocks[number].name, []
        for numbers, X, y, weight, groups in reading.slices(number):
            kept = ~found.holds_out(numbers, groups)
            if not kept.any():
                continue
            if not kept.all():
                X, y = X.filter(kept), y[kept]
                weight = None if weight is None else weight[kept]
                groups = None if groups is None else groups[kept]
            try:
                table, encoded = rows.encoder.encode(X), rows.target.encode(y)
                if rows.class_weights is not None:
                    of_rows = rows.class_weights[rows.target.codes(y)]
                    weight = of_rows if weight is None else of_rows * weight
            except (ValueError, TypeError) as error:
                raise located(error, name) from error
            if weight is not None:
                weight = (weight / found.mean_weight).astype(np.float32)
            parts.append(EncodedTensors.from_table(table, "cpu", encoded, weight, groups))
        n_rows = sum(map(len, parts))
        if n_rows != found.sizes[number]:
            raise OSError(
                f"{name} had {found.sizes[number]} training rows in the first pass and has "
                f"{n_rows} now: the file has changed."
            )
        return joined(parts)

    def groups(self, number):
        """Labels of the groups of the rows of a block, int64 (n_rows,); no other rows are read."""
        holds_out = self.found.holds_out
        return self.reading.groups(number, lambda rows, groups: ~holds_out(rows, groups))

    def _unpacked(self, matrix):
        """Tensors of their own out of a mapped file."""
        import torch

        rows = self.found.rows
        table, has_weight, has_groups = rows.table, rows.weight is not None, rows.groups is not None
        numbers = table.numeric.shape[1] + table.vectors.shape[1]
        widths = [table.ids.shape[1], numbers, table.sequences.shape[1], 1]
        widths += [int(has_weight), 2 * has_groups]
        ends = np.cumsum(widths)
        ids, numeric, sequences, y, weight, groups = (
            np.array(matrix[:, end - width : end]) for end, width in zip(ends, widths, strict=True)
        )
        y = y[:, 0].astype(np.int64) if rows.y.dtype.kind == "i" else y[:, 0].view(np.float32)
        weight = torch.from_numpy(weight[:, 0].view(np.float32)) if has_weight else None
        groups = torch.from_numpy(groups.view(np.int64)[:, 0]) if has_groups else None
        ids, numeric, sequences = map(torch.from_numpy, (ids, numeric.view(np.float32), sequences))
        return EncodedTensors(ids, numeric, sequences, torch.from_numpy(y), weight, groups)


def _packed(data):
    """All of a block as int32 (n_rows, width); floats and groups by their bits."""
    parts = [data.ids, data.numeric, data.sequences, data.y[:, None]]
    parts += [] if data.weight is None else [data.weight[:, None]]
    arrays = (part.numpy() for part in parts)
    packed = [a.view(np.int32) if a.dtype.kind == "f" else a.astype(np.int32) for a in arrays]
    packed += [] if data.groups is None else [data.groups.numpy()[:, None].view(np.int32)]
    return np.concatenate(packed, 1)
