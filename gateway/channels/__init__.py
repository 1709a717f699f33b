"""Ways to patients: how a report looks there, and how it is brought to portals, apps and folders."""
