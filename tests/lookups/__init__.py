"""Services of demographics and cross-references, stubbed from their public interfaces."""
