"""A brain-MRI tumour classifier whose numbers can be believed. Research and teaching only, never diagnosis."""

import os

__version__ = "0.1.0"

# onnxruntime reports to its makers unless told otherwise before it is loaded; nothing leaves this machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
