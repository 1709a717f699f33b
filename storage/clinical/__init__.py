"""Reports as clinicians of other trusts come to them: which there are for a question, and who has read what."""
