from __future__ import annotations

import io
import logging
import threading
import warnings

import pytest
from support.scans import placed, zipped

from brain_mri.io.quiet import quiet
from brain_mri.io.volumes import read_slices


def test_no_header_value_is_printed_warned_of_or_logged(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            files = {
                str(k): placed(
                    k, BodyPartExamined="Doe^Head", AcquisitionNumber=1, VOILUTFunction="doe", ImageType=["doe"]
                )
                for k in range(3)
            }
            said.truncate(0)
        warnings.simplefilter("always")
        read_slices(zipped(files))
        read_slices(files["0"])
    finally:
        logging.getLogger().removeHandler(handler)
    printed = "".join(capfd.readouterr())
    told = said.getvalue() + printed + "".join(str(one.message) for one in recwarn)
    assert "doe" not in told.lower()


def test_warnings_of_others_are_left_alone() -> None:
    before = list(warnings.filters)
    seen: list[str] = []

    def other() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("another thread's", stacklevel=1)
            seen.extend(str(one.message) for one in caught)

    with quiet():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == ["another thread's"] and list(warnings.filters) == before
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)
