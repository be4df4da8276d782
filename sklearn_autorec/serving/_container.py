"""The file: a fixed prefix, a JSON header, raw arrays; nothing in it can run.

====================  =====================================================================================
bytes                 content
====================  =====================================================================================
0-7                   magic
8-9, 10-11            format version, major and minor, little-endian
12-19                 length of the header in bytes, little-endian
20-51                 SHA-256 of everything else in the file
52-                   header: UTF-8 JSON, ``{"arrays": [[dtype, shape], ...], "model": tree of nodes}``
from there            the arrays one after the other, little-endian, C order, each at a multiple of 64 bytes
====================  =====================================================================================

The place of an array follows from the sizes of those before it and the file must end where the last one does, so a
header cannot make arrays overlap, reach outside or ask for more memory than the file has bytes.
"""

import hashlib
import json
import math
import os
import secrets
import stat
import struct
from pathlib import Path

import numpy as np

from ..exceptions import ModelFileError

MAGIC = b"\x93AUTOREC"
VERSION = (1, 0)  # another major number if older readers would misread the file
PREFIX = struct.Struct("<8sHHQ32s")
ALIGNMENT = 64
DTYPES = {
    name: np.dtype(name)
    for name in ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
}
MAX_DIMENSIONS = 16
MAX_DIGITS = 20  # of an integer in the header


def pack(model, arrays):
    """Parts of the file, bytes-like, in order.

    Parameters
    ----------
    model : JSON value
    arrays : list of C-contiguous ndarray with a dtype of ``DTYPES``
    """
    header = json.dumps(
        {"arrays": [[a.dtype.str, list(a.shape)] for a in arrays], "model": model},
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
    parts, position = [header], PREFIX.size + len(header)
    for array in arrays:
        padding = -position % ALIGNMENT
        parts += [bytes(padding), memoryview(array.reshape(-1)).cast("B") if array.size else b""]
        position += padding + array.nbytes
    digest = _digest((*VERSION, len(header)), parts)
    return [PREFIX.pack(MAGIC, *VERSION, len(header), digest), *parts]


def unpack(data):
    """Header's model and arrays (views) of a file's bytes.

    Raises
    ------
    ModelFileError
        If the bytes are not such a file, whole and unchanged.
    """
    if len(data) < PREFIX.size or data[:8] != MAGIC:
        raise ModelFileError("This is not a file written by sklearn_autorec.serving.save (its first bytes differ).")
    _, major, minor, length, digest = PREFIX.unpack_from(data)
    if major != VERSION[0]:
        newer = "; install a newer sklearn-autorec to read it" if major > VERSION[0] else ""
        raise ModelFileError(
            f"The file has format version {major}.{minor}, this sklearn-autorec reads {VERSION[0]}.x{newer}."
        )
    if length > len(data) - PREFIX.size:
        raise ModelFileError(f"The file is cut: its header of {length} bytes reaches beyond its end.")
    if _digest((major, minor, length), [memoryview(data)[PREFIX.size :]]) != digest:
        raise ModelFileError("The file is damaged: its checksum does not agree with its content.")
    end = PREFIX.size + length
    header = _parse(data[PREFIX.size : end])
    if not isinstance(header, dict) or set(header) != {"arrays", "model"} or not isinstance(header["arrays"], list):
        raise ModelFileError("The header must hold 'arrays', a list, and 'model'.")
    return header["model"], _arrays(data, end, header["arrays"])


def write(path, parts):
    """Write all parts to a file that is complete or not there at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path):
    """The bytes of a regular file (a device could go on for ever)."""
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ModelFileError(f"{os.fspath(path)!r} is not a regular file.")
        return file.read()


def _digest(numbers, parts):
    digest = hashlib.sha256(MAGIC + struct.pack("<HHQ", *numbers))
    for part in parts:
        digest.update(part)
    return digest.digest()


def _parse(text):
    """JSON without what JSON readers disagree about: repeated names, NaN, endless integers."""

    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ModelFileError("The header has an object with a repeated name.")
        return found

    def integer(digits):
        if len(digits) > MAX_DIGITS:
            raise ModelFileError(f"The header has an integer of {len(digits)} digits.")
        return int(digits)

    def constant(name):
        raise ModelFileError(f"The header has the number {name}.")

    try:
        text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=unique, parse_int=integer, parse_constant=constant)
    except RecursionError as error:
        raise ModelFileError("The header is nested too deeply.") from error
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"The header is not JSON: {error}") from error


def _arrays(data, position, declared):
    arrays = []
    for entry in declared:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and entry[0] in DTYPES):
            raise ModelFileError(
                f"Array {len(arrays)} must be declared by a known dtype and a shape, got {entry!r:.100}."
            )
        dtype, shape = DTYPES[entry[0]], entry[1]
        if not (
            isinstance(shape, list)
            and len(shape) <= MAX_DIMENSIONS
            and all(type(n) is int and 0 <= n < 2**62 for n in shape)
        ):
            raise ModelFileError(f"Array {len(arrays)} has the shape {shape!r:.100}; it must be a list of sizes.")
        start = position + -position % ALIGNMENT
        size = math.prod(shape)
        position_after = start + size * dtype.itemsize
        if position_after > len(data):
            raise ModelFileError(
                f"Array {len(arrays)} of shape {shape} does not fit into the file of {len(data)} bytes."
            )
        if any(data[position:start]):
            raise ModelFileError(f"The gap before array {len(arrays)} is not empty.")
        arrays.append(np.frombuffer(data, dtype, size, start).reshape(shape))
        position = position_after
    if position != len(data):
        raise ModelFileError(f"The file has {len(data) - position} bytes more than its arrays.")
    return arrays
