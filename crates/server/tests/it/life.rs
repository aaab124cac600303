//! Life of the process apart from crashes.
