"""Evaluate a trained model on the test split of a folder of images; every image is counted once.

    python evaluate_model.py outputs/efficientnet --data_dir <folder>
    torchrun --nproc_per_node 2 evaluate_model.py outputs/efficientnet --data_dir <folder>    the same figures
    python evaluate_model.py outputs/efficientnet --data_dir <images of another source>    how safe it is elsewhere

Writes <model>/evaluation/results.json, every answer (predictions.csv) and the plots beside it. The steps are in
brain_mri/evaluation/evaluate.py; `brain-mri evaluate` is the same code.
"""

from __future__ import annotations

from brain_mri.errors import run_command
from brain_mri.evaluation.__main__ import main

if __name__ == "__main__":
    run_command(main)
