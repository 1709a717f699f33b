"""Work that outlives a process: who runs it here. What it is stands in `gateway.model.work`, where it is kept in storage."""
