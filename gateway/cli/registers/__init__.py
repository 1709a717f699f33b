"""Commands on the registers: each act is one transaction with its audit record, under the name of who acts."""
