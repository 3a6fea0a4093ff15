"""Files, locks, hardware, processes and the command line; nothing in here knows what an MRI is."""
