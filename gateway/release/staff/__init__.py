"""What staff see of reports and do about them, behind the API and the command line."""
