"""One trust's simulated PACS, a process of its own (`python -m gateway.demo.pacs --help`).

It answers C-ECHO, C-FIND, C-MOVE, C-GET and C-STORE through pynetdicom's own `AE`, QIDO-RS, WADO-RS and STOW-RS through
plain aiohttp, both from one index of a folder of DICOM files, and misbehaves on request: slow, dead, lying, in odd
character sets. It shares no protocol code with the gateway, so that one mistake cannot hide in both ends.
"""
