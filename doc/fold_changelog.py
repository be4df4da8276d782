"""Fragments of ``changelog.d`` as text, and into the changelog when a release is made.

``make changelog`` runs it: the version is that of the package, the date that of ``CITATION.cff``.
"""

import re
import sys
from pathlib import Path

KINDS = {"feature": "New", "change": "Changed", "fix": "Fixed"}
MARK = ".. Releases stand below this line, the newest first."


def fragments_of(folder):
    """Fragments by kind, each kind in the order of their names.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of str to list of Path

    Raises
    ------
    ValueError
        For a file whose name says no kind, or which is empty.
    """
    found = {kind: [] for kind in KINDS}
    for path in sorted(Path(folder).glob("*")):
        if path.name == "README.rst":
            continue
        name = re.fullmatch(r"[\w-]+\.(\w+)\.rst", path.name)
        if not name or name[1] not in KINDS:
            raise ValueError(f"{path.name} must be called <subject>.<{'|'.join(KINDS)}>.rst.")
        if not path.read_text(encoding="utf-8").strip():
            raise ValueError(f"{path.name} is empty.")
        found[name[1]].append(path)
    return found


def section(title, folder):
    """A section of the changelog with all fragments, or "" where there are none."""
    text = ""
    for kind, paths in fragments_of(folder).items():
        if paths:
            text += f"{KINDS[kind]}\n{'~' * len(KINDS[kind])}\n\n"
        for path in paths:
            fragment = path.read_text(encoding="utf-8").strip()
            text += "- " + re.sub(r"\n(?=.)", "\n  ", fragment) + "\n"
        text += "\n" if paths else ""
    return f"{title}\n{'-' * len(title)}\n\n{text}" if text else ""


def with_section(page, text):
    """The page with a section before those of the releases so far."""
    before, mark, releases = page.partition(MARK)
    if not mark:
        raise ValueError(f"The changelog lacks the line {MARK!r}.")
    return f"{before}{mark}\n\n{text}{releases.lstrip()}"


def fold(root):
    """Make the fragments a section of ``doc/changelog.rst`` and remove them.

    Parameters
    ----------
    root : path
        Of the project.

    Returns
    -------
    str
        The title of the section: version and date.

    Raises
    ------
    ValueError
        If the version of the package is not that of ``CITATION.cff``, the changelog has it already,
        or there is no fragment.
    """
    root = Path(root)
    page, folder = root / "doc" / "changelog.rst", root / "doc" / "changelog.d"
    version = re.search(
        r'"(.+)"', (root / "sklearn_autorec" / "_version.py").read_text(encoding="utf-8")
    )[1]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1]
    if cited != version:
        raise ValueError(f"CITATION.cff has version {cited}, the package {version}.")
    date = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1]
    text = page.read_text(encoding="utf-8")
    if re.search(rf"^{re.escape(version)} \(", text, re.MULTILINE):
        raise ValueError(f"The changelog has version {version} already.")
    title = f"{version} ({date})"
    new = section(title, folder)
    if not new:
        raise ValueError(f"{folder} holds no fragments.")
    page.write_text(with_section(text, new).rstrip() + "\n", encoding="utf-8")
    for paths in fragments_of(folder).values():
        for path in paths:
            path.unlink()
    return title


if __name__ == "__main__":
    try:
        print(f"doc/changelog.rst has the section {fold(Path(__file__).parents[1])}.")
    except ValueError as error:
        sys.exit(f"Nothing was changed: {error}")
