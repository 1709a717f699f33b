"""Services that know more of patients than the registers here, asked over HTTP: `gateway.model.seams.PatientLookup`."""
