"""Parts of the gateway measured alone, in this process: no listener, no peer."""
