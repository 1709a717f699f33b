"""Giving reports to patients: who they are on the day, what each channel is given, and what is taken back."""
