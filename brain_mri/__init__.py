"""A brain-MRI tumour classifier whose numbers can be believed. Research and teaching only, never diagnosis."""

__version__ = "0.1.0"
