"""The file: a fixed prefix, a JSON header, raw arrays; nothing in it can run.

============  ====================================================================================
bytes         content
============  ====================================================================================
0-7           magic
8-9, 10-11    format version, major and minor, little-endian
12-19         length of the header in bytes, little-endian
20-51         SHA-256 of everything else in the file
52-           header: UTF-8 JSON, ``{"arrays": [[dtype, shape], ...], "model": tree of nodes}``,
              from format 1.1 on with ``"versions": {package: version}`` of those that wrote it
from there    the arrays one after the other, little-endian, C order, each at a multiple of 64 bytes
============  ====================================================================================

The place of an array follows from the sizes of those before it and the file must end where the last
one does, so a header cannot make arrays overlap, reach outside or ask for more memory than the file
has bytes."""

import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
from pathlib import Path

import numpy as np
import sklearn

from .._version import __version__
from ..exceptions import ModelFileError
from ..utils._memory import available_memory

MAGIC = b"\x93AUTOREC"
VERSION = (1, 1)  # another major number if older readers would misread the file
PREFIX = struct.Struct("<8sHHQ32s")
ALIGNMENT = 64
MAX_VERSION = 60  # characters of the version of a package
DTYPES = {
    name: np.dtype(name)
    for name in ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
}
MAX_DIMENSIONS = 16
MAX_DIGITS = 20  # of an integer in the header
MAX_FLOAT = 400  # characters of a number with a fraction: reading those takes more than linear time
FREE_HEADER = 2**20  # bytes in memory that any header may take
HEADER_GROWTH = 26  # and for each of its bytes
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# About what Python takes for a list, dict, string and number.
_SIZES = {b"[": 72, b"{": 240, b'"': 30, b",": 32}


def pack(model, arrays):
    """Parts of the file, bytes-like, in order.

    Parameters
    ----------
    model : JSON value
    arrays : list of C-contiguous ndarray with a dtype of ``DTYPES``
    """
    header = json.dumps(
        {
            "arrays": [[a.dtype.str, list(a.shape)] for a in arrays],
            "model": model,
            "versions": {"sklearn-autorec": __version__, "scikit-learn": sklearn.__version__},
        },
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
    if not _bounded(header):
        raise ValueError(
            "The model has so many small parts that its file could not be read in bounded memory."
        )
    parts, position = [header], PREFIX.size + len(header)
    for array in arrays:
        padding = -position % ALIGNMENT
        parts += [bytes(padding), memoryview(array.reshape(-1)).cast("B") if array.size else b""]
        position += padding + array.nbytes
    digest = _digest((*VERSION, len(header)), parts)
    return [PREFIX.pack(MAGIC, *VERSION, len(header), digest), *parts]


def unpack(data):
    """Header's model and arrays (views) of a file's bytes; see `unpack_all`."""
    return unpack_all(data)[:2]


def unpack_all(data):
    """Header's model, arrays (views), and versions by package of those that wrote them, {} in files
    that do not tell.

    Raises
    ------
    ModelFileError
        If the bytes are not such a file, whole and unchanged.
    """
    major, minor, length, digest = _prefix(data, len(data))
    if _digest((major, minor, length), [memoryview(data)[PREFIX.size :]]) != digest:
        raise ModelFileError("The file is damaged: its checksum does not agree with its content.")
    end = PREFIX.size + length
    header = _parse(bytes(data[PREFIX.size : end]))
    if (
        not isinstance(header, dict)
        or set(header) - {"versions"} != {"arrays", "model"}
        or not isinstance(header["arrays"], list)
    ):
        raise ModelFileError("The header must hold 'arrays', a list, and 'model'.")
    versions = header.get("versions", {})
    if not isinstance(versions, dict) or not all(
        isinstance(text, str) and len(text) <= MAX_VERSION for text in versions.values()
    ):
        raise ModelFileError("The header's 'versions' must be short strings by package.")
    return header["model"], _arrays(data, end, header["arrays"]), versions


def _prefix(data, size):
    """Version, length of the header and checksum from the first bytes of a file of a size."""
    if len(data) < PREFIX.size or data[:8] != MAGIC:
        raise ModelFileError(
            "This is not a file written by sklearn_autorec.serving.save (its first bytes differ)."
        )
    _, major, minor, length, digest = PREFIX.unpack_from(data)
    if major != VERSION[0]:
        newer = "; install a newer sklearn-autorec to read it" if major > VERSION[0] else ""
        raise ModelFileError(
            f"The file has format version {major}.{minor}, this sklearn-autorec reads "
            f"{VERSION[0]}.x{newer}."
        )
    if length > size - PREFIX.size:
        raise ModelFileError(
            f"The file is cut: its header of {length} bytes reaches beyond its end."
        )
    return major, minor, length, digest


def write(path, parts):
    """Write all parts to a file that is complete or not there at all; what was there stays until
    then.

    A link is followed: the file that it names is replaced, and the link stays. The new file has the
    permissions of the old one. What is no file, say a device or a pipe, is not replaced."""
    path = Path(os.path.realpath(path))
    mode = None
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        pass
    if mode is not None and not stat.S_ISREG(mode):
        kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
        raise kind(f"{os.fspath(path)!r} is not a regular file, so it is not replaced by a model.")
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())  # or the name may reach the disk before the content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path, max_bytes=None):
    """The bytes of a regular file of the format that fits into memory, or into ``max_bytes``."""
    name = os.fspath(path)
    # Opening a pipe would wait for a writer.
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_NOCTTY", 0)
    )
    with open(name, "rb", buffering=0, opener=lambda file, _: os.open(file, flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{name!r} is not a regular file.")
        size = status.st_size
        if max_bytes is not None and size > max_bytes:
            raise ModelFileError(f"{name!r} has {size:,} bytes, more than max_bytes={max_bytes:,}.")
        _prefix(file.read(PREFIX.size), size)
        if size > (free := available_memory()):
            raise ModelFileError(
                f"{name!r} has {size:,} bytes, and {free:,} bytes of memory are free."
            )
        file.seek(0)
        try:
            data = bytearray(size)
            left = memoryview(data)
            while left and (n := file.readinto(left)):
                left = left[n:]
        except MemoryError as error:
            raise ModelFileError(
                f"{name!r} has {size:,} bytes, for which there is no memory."
            ) from error
        if left or file.read(1):
            raise ModelFileError(f"{name!r} changed while it was read.")
    return memoryview(data).toreadonly()


def _digest(numbers, parts):
    digest = hashlib.sha256(MAGIC + struct.pack("<HHQ", *numbers))
    for part in parts:
        digest.update(part)
    return digest.digest()


def _bounded(header):
    """Whether the values of a header take memory in proportion to its length."""
    most = FREE_HEADER + HEADER_GROWTH * len(header)
    size = sum(header.count(sign) * n for sign, n in _SIZES.items())
    if size > most:  # unless these stand within strings
        for string in _STRINGS.finditer(header):
            size -= sum(string[0].count(sign, 1, -1) * n for sign, n in _SIZES.items())
    return size <= most


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

    def fraction(digits):
        if len(digits) > MAX_FLOAT:
            raise ModelFileError(f"The header has a number of {len(digits)} characters.")
        return float(digits)

    def constant(name):
        raise ModelFileError(f"The header has the number {name}.")

    if not _bounded(text):
        raise ModelFileError("The header would take many times its size in memory.")
    try:
        text = text.decode("utf-8")
        return json.loads(
            text,
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=fraction,
            parse_constant=constant,
        )
    except RecursionError as error:
        raise ModelFileError("The header is nested too deeply.") from error
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"The header is not JSON: {error}") from error


def _arrays(data, position, declared):
    arrays = []
    for entry in declared:
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], str)
            and entry[0] in DTYPES
        ):
            raise ModelFileError(
                f"Array {len(arrays)} must be declared by a known dtype and a shape, got "
                f"{entry!r:.100}."
            )
        dtype, shape = DTYPES[entry[0]], entry[1]
        if not (
            isinstance(shape, list)
            and len(shape) <= MAX_DIMENSIONS
            and all(type(n) is int and 0 <= n < 2**62 for n in shape)
        ):
            raise ModelFileError(
                f"Array {len(arrays)} has the shape {shape!r:.100}; it must be a list of sizes."
            )
        start = position + -position % ALIGNMENT
        size = math.prod(shape)
        position_after = start + size * dtype.itemsize
        if position_after > len(data):
            raise ModelFileError(
                f"Array {len(arrays)} of shape {shape} does not fit into the file of {len(data)} "
                f"bytes."
            )
        if any(data[position:start]):
            raise ModelFileError(f"The gap before array {len(arrays)} is not empty.")
        arrays.append(np.ndarray(shape, dtype, data, start))
        position = position_after
    if position != len(data):
        raise ModelFileError(f"The file has {len(data) - position} bytes more than its arrays.")
    return arrays
