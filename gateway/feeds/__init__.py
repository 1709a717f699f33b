"""Where reports come in: HL7 v2 over MLLP and FHIR, read strictly and handed on; nothing is kept or decided here."""
