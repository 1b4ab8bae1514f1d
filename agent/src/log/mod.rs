//! Output on its way up: numbered chunks, bounded, resent until acknowledged.
