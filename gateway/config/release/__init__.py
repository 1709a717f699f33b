"""The settings of reports: on which terms they are released, where they come from and where they go."""
