"""Reads untrusted files within limits: pictures, DICOM, NIfTI, zips and folders. No torch."""
