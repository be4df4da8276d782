"""Files that are whole or absent."""

import pytest

from sklearn_autorec.utils._files import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "found"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old" and len([*tmp_path.iterdir()]) == 2
    assert path.read_bytes() == b"new" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_goes_wrong_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "found"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]
