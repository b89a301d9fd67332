//! Assembly: what daemon and CLI share.
