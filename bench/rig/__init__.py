"""What a measurement stands on: the archive, Orthanc, the gateway under test, the load, and the studies they hold."""
