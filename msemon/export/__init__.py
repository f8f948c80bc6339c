"""What a process knows, as metrics, JSON and a page over HTTP."""
