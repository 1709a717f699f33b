"""The release of reports: taken in, planned, given to patients when their time has come, and chased."""
