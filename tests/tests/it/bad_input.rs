//! Hostile bytes on the client port of a real router.
