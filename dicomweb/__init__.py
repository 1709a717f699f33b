"""The DICOMweb edge: QIDO-RS in, and DICOMweb archives asked. Decides nothing about who may see what."""
