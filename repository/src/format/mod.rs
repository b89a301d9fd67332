//! Envelopes of small objects.
