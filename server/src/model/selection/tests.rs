//! Own cases.
