"""Reports as FHIR R4, read and searched by clinicians' systems at the machines' door (SAF-63)."""
