"""A verified report in its referrer's hands: who is told, who has read it, who has seen to the patient."""
