"""Where what feeds say belongs among the reports that are there."""
