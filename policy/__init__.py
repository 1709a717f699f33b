"""Who may see what, and why: pure decisions over facts. Standard library only; no clock, no database, no DICOM."""
