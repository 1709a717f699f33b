"""What the patient's page keeps beside reports."""
