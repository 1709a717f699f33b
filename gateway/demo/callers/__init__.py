"""What people at a trust work with, as the gateway sees it: a viewer on DICOMweb, a workstation on DICOM."""
