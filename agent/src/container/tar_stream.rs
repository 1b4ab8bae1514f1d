//! Tar archives that pass by: a stream of bytes read by code that wants a `Read`, and the other way round.
