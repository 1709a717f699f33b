"""What the benchmarks of images stand on: studies, an archive that gives them, clients, the gateway set up for them."""
