//! Tests of whole nodes, and of the house rules. All of them are in one binary, `tests/all`, so that it is linked once.
