"""Where rows go: the only place with `writeStream`; one module a sink."""
