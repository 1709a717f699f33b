"""What follows for reports from time and from the registers, whoever changed them."""
