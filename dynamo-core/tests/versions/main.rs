//! Tests of versions: clocks, records, contexts, actors, their disk and message forms, and the
//! names and numbers that requests are made of.

mod amnesia;
mod codec_wire;
mod context_tokens;
mod golden;
mod paper_versioning;
mod params_and_names;
mod reference_model;
mod siblings;
mod twins;
