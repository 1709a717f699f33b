"""What reports cost: taken in durably, and released on the morning on which many are due."""
