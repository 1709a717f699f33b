"""What governance asks of all reports at once, beside the lists."""
