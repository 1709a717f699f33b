"""Work that outlives a process: durable jobs, and what each of them still has to bring."""
