"""FHIR R4 as it is received: reports of systems that send resources instead of segments."""
