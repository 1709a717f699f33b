"""A simulated DICOMweb archive for all tests of a module; honest again before each."""

from tests.dicomweb.conftest import archive, eastvale, made

__all__ = ["archive", "eastvale", "made"]
