"""HL7 v2 as it is received: blocks, messages, answers to them, and what a radiology report looks like in one."""
