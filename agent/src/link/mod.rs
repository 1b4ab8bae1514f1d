//! The two streams to a server.
