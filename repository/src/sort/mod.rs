//! Sorting unsorted cuts in bounded memory.
