"""What pyproject.toml has no words for: the recipes of configs/ travel in the package, as brain_mri/recipes."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["brain_mri*"]), "brain_mri.recipes"],
    package_dir={"brain_mri.recipes": "configs"},
)
