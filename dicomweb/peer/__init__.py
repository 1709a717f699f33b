"""Trusts' DICOMweb archives as we ask them: what may go wrong with one, and how its images are fetched."""
