"""When two spellings are one value: the rule that encoder, crossers, model files and ONNX inputs
share.

The rule, which `FieldEncoder` states for users:

- Integers are exact, of whatever size and container. Text of digits alone is that integer, a whole
  `decimal.Decimal` too.
- A float that is whole is that integer while its type tells it from its neighbours: below 2^53, in
  float32 below 2^24, in float16 below 2^11. Beyond, digits are lost, and it equals no integer. Text
  with a point or an exponent is read as a float.
- A float that is not whole is known by its fewest digits: 0.1 in float32 (or float16) is 0.1. A
  float64 that float32 can hold is treated as if it had come from there, which it mostly has.
- true and false are 1 and 0, and in text their names in any case.

Nothing here uses pandas, so that the reference function for ONNX inputs can use it.
"""

import re
from decimal import Decimal
from itertools import product

import numpy as np

# By bytes of a float: below, integers are exact.
LARGEST_INTEGER_OF = {2: 2**11, 4: 2**24, 8: 2**53}
EXACT = 2**53
_DIGITS = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_FLOAT = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
LONGEST_NUMBER = 4000  # digits; Python refuses to write out integers of more than 4300

# Every spelling of the two names, to their truth.
WORDS = {
    "".join(letters): truth
    for word, truth in (("true", True), ("false", False))
    for letters in product(*zip(word, word.upper(), strict=True))
}


def plain_number(value):
    """A number as a Python int where that is certain, as a float otherwise; None for what is no
    number.

    A float that comes back whole has lost its digits. A Decimal that no float holds comes back as
    text.
    """
    if isinstance(value, bool | np.bool_ | int | np.integer):
        # Which numpy counts among integers.
        return None if isinstance(value, np.timedelta64) else int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if number.is_integer():
            limit = (
                LARGEST_INTEGER_OF.get(value.itemsize, EXACT)
                if isinstance(value, np.floating)
                else EXACT
            )
            return int(number) if abs(number) < limit else number
        if isinstance(value, np.floating) and value.itemsize == 2:
            return float(str(value))
        return _fewest_digits(number)
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    return None


def _fewest_digits(number):
    """A float64 that is not whole; one that float32 can hold, by its fewest digits there."""
    if abs(number) > 3e38:  # infinity; whole numbers do not come here
        return number
    narrow = np.float32(number)
    return float(str(narrow)) if float(narrow) == number else number


def _plain_decimal(value):
    if not value.is_finite():
        return float(value)
    if value.adjusted() > LONGEST_NUMBER:
        return str(value.normalize())
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return _fewest_digits(number) if Decimal(repr(number)) == value else str(value.normalize())


def fewest_digits(values):
    """Float array as float64, as `plain_number` has the single ones."""
    out = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        inexact = np.mod(out, 1) != 0
        if values.dtype.itemsize == 8:
            inexact &= out.astype(np.float32) == out
    inexact &= np.isfinite(out)
    if inexact.any():
        narrow = values[inexact]
        narrow = narrow.astype(np.float32) if narrow.dtype.itemsize == 8 else narrow
        out[inexact] = narrow.astype(str).astype(np.float64)
    return out


def whole_and_exact(values):
    """Which floats of an array are integers without doubt, and which are whole but have lost
    digits.
    """
    with np.errstate(invalid="ignore"):
        whole = np.mod(values.astype(np.float64), 1) == 0
        exact = np.abs(values.astype(np.float64)) < LARGEST_INTEGER_OF[values.dtype.itemsize]
    return whole & exact, whole & ~exact


def number_of_text(text):
    """Text as `plain_number` has numbers; None if it is no number."""
    if _DIGITS.fullmatch(text):
        return int(text) if len(text) <= LONGEST_NUMBER else None
    return plain_number(float(text)) if _FLOAT.fullmatch(text) else None


def digits_of(number):
    """What `plain_number` gives, as the text under which columns of text know it."""
    if isinstance(number, int):
        return str(number) if number.bit_length() < 3 * LONGEST_NUMBER else hex(number)
    return number if isinstance(number, str) else repr(number)


def as_integer(number):
    """An int in the range of int64, else None, of what `plain_number` or `number_of_text` gives."""
    return number if isinstance(number, int) and -(2**63) <= number < 2**63 else None


def as_float(number):
    """A float that stands for the same number, else None."""
    if isinstance(number, int):
        return float(number) if abs(number) <= EXACT else None
    return number if isinstance(number, float) else None


def spellings_of(number):
    """Texts under which a column of text may know a number: 2 as "2", else as "2.0"."""
    text = digits_of(number)
    return (text, f"{text}.0") if isinstance(number, int) and abs(number) < EXACT else (text,)
