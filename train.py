"""Fine-tune a classifier of brain-MRI slices on a folder of images. Research and teaching only, never diagnosis.

    python train.py configs/quickstart.yaml --data_dir <folder>                 a minute on a laptop's CPU
    accelerate launch train.py configs/efficientnet.yaml --data_dir <folder>    one GPU or several
    torchrun --nproc_per_node 2 train.py configs/efficientnet.yaml --data_dir <folder>    several CPU processes

Stopped at any moment, the same command with --resume_from_checkpoint goes on and ends at the same weights. The steps
are in brain_mri/training/train.py; `brain-mri train` is the same code.
"""

from __future__ import annotations

from brain_mri.errors import run_command
from brain_mri.training.__main__ import main

if __name__ == "__main__":
    run_command(main)
