"""The command `python -m brain_mri.shards`; the code is in `hub/shards.py`."""
