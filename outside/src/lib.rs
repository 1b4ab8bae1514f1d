//! The way out: HTTP requests of pipelines and of the server, to addresses that the operator allows.
