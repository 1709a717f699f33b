"""Reports for clinicians: documents beside the images, told of when they change, taken in as DICOM (SAF-62, 63)."""
