"""Reports as DICOM objects: read when a trust stores them, written for clinicians of other trusts."""
