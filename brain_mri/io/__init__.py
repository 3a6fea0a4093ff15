"""Reads whatever a stranger brings, within limits: pictures, DICOM, NIfTI, zips and folders. No torch."""
