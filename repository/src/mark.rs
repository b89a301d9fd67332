//! Pins, tags, verified marks and forgets.
