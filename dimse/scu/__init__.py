"""The gateway as service class user: how archives are asked over DIMSE."""
