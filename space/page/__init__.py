"""What the page of `space/app.py` is made of; the judging itself is `brain_mri`'s."""
