"""Folders and Hub data sets become splits of ready pixels."""
