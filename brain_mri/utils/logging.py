"""What a run prints on the console."""

from __future__ import annotations

import logging

from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from brain_mri.utils.progress import show_bars


def set_up_console(bars: bool = True) -> None:
    """Show this package's messages and `bars`, of the main process only, and nothing but errors of the libraries."""
    show_bars(bars and PartialState().is_main_process)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("brain_mri").setLevel(logging.INFO if PartialState().is_main_process else logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of loading and saving weights; the trainer's own bar stays
