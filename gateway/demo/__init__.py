"""The on-boarding simulator and the demo region.

A trust joins the region against simulated hospitals first: `cast` names the patients of the story, `images` writes
their studies, `pacs` is one trust's archive as a process of its own. Nothing here imports our protocol code
(`dimse`, `dicomweb`, `storage`, `gateway.sharing`): a peer that shared our mistakes would prove nothing.
"""
