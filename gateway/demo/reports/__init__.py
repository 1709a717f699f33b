"""What the release of reports needs of the world outside: a reporting system, NHS login, the national register."""
