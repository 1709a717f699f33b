"""In what order the versions of a report became so, whatever the order in which they came."""
