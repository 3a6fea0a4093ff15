"""Tables that people make in a spreadsheet: CSV in UTF-8, divided by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from brain_mri.errors import DataError

Row = dict[str, str]


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """The columns and the rows of a table; a cell that a row lacks is the empty string.

    Raises:
        DataError: it can't be read, or is not in UTF-8.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not in UTF-8; save it so.") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check its permissions.") from error
    header = content.split("\n", 1)[0]
    reader = csv.DictReader(
        io.StringIO(content, newline=""), delimiter=max(",;\t", key=header.count), restkey="", restval=""
    )
    try:
        columns = list(reader.fieldnames or ())
        return columns, [{name: str(row[name]) for name in columns} for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: is no table that can be read ({error}); save it as CSV.") from error
