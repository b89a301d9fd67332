//! The kinds of systems that can be protected, one folder each, and one list of all.
